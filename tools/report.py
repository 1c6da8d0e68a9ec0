"""What the demo prints and writes: a table, a picture and a JSON file."""

import dataclasses
import json
import math
import pathlib
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from matplotlib.figure import Figure

import tf_keras_optim as tko
from tf_keras_optim.keras_compat.running import keras
from tools.bench.task_data import Data
from tools.config import Config
from tools.task import steps_per_epoch

FIRST_STEPS = 10

_WHAT_TIMES_ARE = """\
A fit step is the whole of it: batch, forward pass, gradients, update and metrics of a
small model. The optimizer is only a part, so these times say little about its speed.
The two ran one after the other in this process, ours with `OptimizerMonitor`."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What one training run gave.

    Attributes:
      step_losses: cross-entropy of each batch, before its update.
      epoch_test_accuracies: accuracy on the test images after each epoch, in [0, 1].
      train_loss: cross-entropy of the training images at the end, without dropout.
      test_loss: the same of the test images.
      test_accuracy: accuracy on the test images at the end, in [0, 1].
      first_step_seconds: from the call of `fit` to the end of the first step.
      step_seconds: duration of every step after the first.
    """

    step_losses: list[float]
    epoch_test_accuracies: list[float]
    train_loss: float
    test_loss: float
    test_accuracy: float
    first_step_seconds: float
    step_seconds: list[float]

    @property
    def median_step_milliseconds(self) -> float:
        """Median duration of a step, the first left out; NaN if there was no other."""
        return 1e3 * statistics.median(self.step_seconds) if self.step_seconds else math.nan

    def summary(self) -> dict[str, Any]:
        """Returns the figures, the durations of single steps left out."""
        values = dataclasses.asdict(self)
        del values["step_seconds"]
        return values | {"median_step_milliseconds": self.median_step_milliseconds}


def keras_title() -> str:
    """Returns name and version of the running Keras: "Keras 3.9.0", "tf_keras 2.19.0"."""
    name = "tf_keras" if keras.__name__.startswith("tf_keras") else "Keras"
    return f"{name} {keras.__version__}"


def headline(config: Config, data: Data) -> str:
    """Returns what is going to be run, in two lines."""
    return (
        f"{config.name}: {len(data.y)} examples of {config.data['name']} to train on and "
        f"{len(data.y_valid)} to test on, {config.data['epochs']} epochs of "
        f"{steps_per_epoch(config, data)} steps, seed {config.data['seed']}\n"
        f"tf_keras_optim {tko.__version__}, {keras_title()}, TensorFlow {tf.__version__}"
    )


def watched(records: Sequence[Mapping[str, float]]) -> str:
    """Returns what the monitor saw as a table, a row for each number.

    Args:
      records: what `OptimizerMonitor.records` holds.
    """
    known = dict.fromkeys(name for record in records for name in record)
    rows = [
        f"{'what the monitor saw':46}{'first':>10}{'median':>10}{'largest':>10}{'last':>10}"
    ]
    for name in known:
        values = [record[name] for record in records if name in record]
        values = [value for value in values if not math.isnan(value)]
        if name not in ("batch", "loss") and values:
            four = (values[0], statistics.median(values), max(values), values[-1])
            rows.append(f"{name:46}" + "".join(f"{value:>10.3g}" for value in four))
    return "\n".join(rows)


def relative_difference(ours: float, peer: float) -> float:
    """Returns `|ours - peer| / |peer|`, 0 where both are equal."""
    if ours == peer:
        return 0.0
    return abs(ours - peer) / abs(peer) if peer else math.inf


class Comparison:
    """Two runs of one configuration, side by side, or one alone.

    Args:
      config: the configuration.
      ours: the run with the optimizer of this package.
      peer: the run with the one of Keras, or `None`.
    """

    def __init__(self, config: Config, ours: Result, peer: Result | None = None):
        self.config, self.ours = config, ours
        self.peer: Any = peer  # the properties below are about two runs

    @property
    def sides(self) -> list[tuple[str, Result]]:
        """Title and run of each side."""
        peer = [] if self.peer is None else [(keras_title(), self.peer)]
        return [("tf_keras_optim", self.ours), *peer]

    @property
    def first_steps_difference(self) -> float:
        """Largest relative difference of the losses of the first ten steps."""
        pairs = zip(self.ours.step_losses[:FIRST_STEPS], self.peer.step_losses[:FIRST_STEPS])
        # In a list with NaN `max` depends on the order, so NaN is looked for first.
        differences = [relative_difference(ours, peer) for ours, peer in pairs]
        return math.nan if any(map(math.isnan, differences)) else max(differences)

    @property
    def train_loss_difference(self) -> float:
        """Relative difference of the final training losses."""
        return relative_difference(self.ours.train_loss, self.peer.train_loss)

    @property
    def step_time_ratio(self) -> float:
        """Median step time of ours over that of Keras."""
        return self.ours.median_step_milliseconds / self.peer.median_step_milliseconds

    def table(self) -> str:
        """Returns the comparison as text."""
        rows = [
            ("final training loss (no dropout)", "train_loss", ".5f"),
            ("test loss", "test_loss", ".5f"),
            ("test accuracy", "test_accuracy", ".4f"),
            ("median fit step after the first, ms", "median_step_milliseconds", ".2f"),
            ("time to the end of the first step, s", "first_step_seconds", ".2f"),
        ]
        of_peer = f", Keras' {self.config.peer['name']}" if self.config.peer else ""
        titles = "".join(f"{title:>18}" for title, _ in self.sides)
        lines = [f"{self.config.optimizer['name'] + of_peer:38}{titles}"]
        for title, attribute, form in rows:
            values = [getattr(result, attribute) for _, result in self.sides]
            lines.append(f"{title:38}" + "".join(f"{value:>18{form}}" for value in values))
        if self.peer is None:
            return "\n".join(lines)
        lines.append("")
        if not self.config.peer:
            count = min(FIRST_STEPS, len(self.ours.step_losses))
            lines += [
                f"losses of the first {count} steps: largest relative difference "
                f"{self.first_steps_difference:.1e}",
                f"final training losses: relative difference {self.train_loss_difference:.1e}",
            ]
        lines += [f"fit step time, ours / Keras: {self.step_time_ratio:.2f}", _WHAT_TIMES_ARE]
        return "\n".join(lines)

    def summary(self, seconds: float) -> dict[str, Any]:
        """Returns all that `summary.json` holds; `seconds` is the time of the whole run."""
        found = {
            "config": dataclasses.asdict(self.config),
            "versions": {
                "tf_keras_optim": tko.__version__,
                "keras": keras_title(),
                "tensorflow": tf.__version__,
                "python": platform.python_version(),
            },
            "tf_keras_optim": self.ours.summary(),
            "total_seconds": seconds,
        }
        if self.peer is None:
            return found
        return found | {
            "keras": self.peer.summary(),
            "comparison": {
                "first_ten_steps_largest_relative_difference": self.first_steps_difference,
                "final_train_loss_relative_difference": self.train_loss_difference,
                "median_step_time_ratio": self.step_time_ratio,
            },
        }

    def write(self, directory: pathlib.Path, seconds: float) -> list[pathlib.Path]:
        """Writes `curves.png` and `summary.json`.

        Args:
          directory: where to; made if it is missing.
          seconds: the time of the whole run, for the summary.

        Returns:
          The paths of both files.
        """
        directory.mkdir(parents=True, exist_ok=True)
        curves, summary = directory / "curves.png", directory / "summary.json"
        self.figure().savefig(curves, dpi=120)
        text = json.dumps(_finite(self.summary(seconds)), indent=2, allow_nan=False)
        summary.write_text(text + "\n", encoding="utf-8")
        return [curves, summary]

    def figure(self) -> Figure:
        """Returns curves: the losses of all batches, the test accuracies of all epochs."""
        figure = Figure(figsize=(12, 4.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        # A wide solid line under a thin dashed one: both show where they coincide.
        styles: list[dict[str, Any]] = [
            {"color": "tab:orange", "linewidth": 2.4},
            {"color": "black", "linewidth": 0.8, "linestyle": (0, (4, 3))},
        ]
        for (title, result), style in zip(self.sides, styles):
            steps = range(1, len(result.step_losses) + 1)
            left.plot(steps, result.step_losses, label=title, **style)
            epochs = range(1, len(result.epoch_test_accuracies) + 1)
            right.plot(epochs, result.epoch_test_accuracies, label=title, **style)
        left.set(yscale="log", xlabel="step", ylabel="training loss of the batch")
        right.set(xlabel="epoch", ylabel="test accuracy")
        right.xaxis.get_major_locator().set_params(integer=True)
        for axes in (left, right):
            axes.grid(alpha=0.3)
            axes.legend()
        figure.suptitle(f"{self.config.name}: {self.config.optimizer['name']}")
        return figure


def _finite(value: Any) -> Any:
    """Replaces NaN and infinities, which JSON does not have, by `None`."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
