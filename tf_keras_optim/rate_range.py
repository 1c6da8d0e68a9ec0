"""A range test of learning rates, and its result."""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_keras_optim.engine.options import calls_per_update
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.optimizers.base import Optimizer

TITLE = "`find_learning_rate`"
_MOST_SKIPPED = 64  # steps in a row; a scale of 2**24 is 1 after fewer
_ROUNDING = 1e-9  # what the smoothing may add to a level curve
_SHARE = 0.5  # of the steepest slope, where the descent begins
_WIDTH = 0.025  # deviation of the smoothing, as a part of all rates of the test


@dataclasses.dataclass(frozen=True)
class LearningRateRange:
    """Losses of a model while its learning rate grew, as `find_learning_rate` returns them.

    ```
    rate of update i = lowest * (highest / lowest) ** (i / (steps - 1))
    ```

    The model trains by its own `fit`, with its compiled optimizer. When the test ends, also by
    an interruption or an error, weights, moving statistics,
    slots, counters, the loss scale, metrics and generators of random numbers (those in the
    model, the global ones of TensorFlow, NumPy and Python) have the values from before, bit for
    bit. A model or optimizer without variables is built, and has its initial values afterwards.
    Two things are not restored: the position of the data (how far a generator was read), and
    random numbers that TensorFlow and Keras 2 draw without a generator.

    The growing rate replaces a schedule or callable during the test; rates of groups grow by
    the same factor. With gradient accumulation, or `steps_per_execution`, an update takes
    several batches, and their mean loss counts. A step that a loss scale skips is repeated
    with the next batch. The test ends early where the loss is not finite, where 64 steps
    in a row are skipped, or where its running mean over a tenth of the test is above
    `divergence` times its lowest value and above the first loss.

    Attributes:
      rates: the learning rates, float64 [n]; fewer than `steps` where the loss diverged.
      losses: the loss at each, float64 [n], before the update with that rate.
      smoothed: the losses with their noise averaged out, float64 [n]: means over neighbours,
        weighted by a Gaussian whose deviation is 2.5 % of `steps`. After the lowest loss, none
        counts as more than the highest one before.
      diverged: whether the test ended early.
      steepest: the rate at which `smoothed` falls fastest over the logarithm of the rate, up to
        its lowest point. `None` where it falls nowhere.
      suggestion: where that descent begins: the lowest rate from which on up to `steepest` it
        falls at least half as fast. A test has few updates at each rate, so the loss falls
        fastest at rates that are too high for a whole training. `None` where the loss falls
        nowhere.
      minimum_over_10: a tenth of the rate at the lowest point, or `None` likewise.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017 (section
    3.3).
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    diverged: bool
    steepest: float | None
    suggestion: float | None
    minimum_over_10: float | None

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Plots losses over rates, with both suggestions.

        Args:
          path: file to write the picture to, e.g. "rates.png", or `None`.

        Returns:
          The matplotlib figure, which a notebook shows.

        Raises:
          ImportError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "`plot` needs matplotlib: pip install 'tf_keras_optim[plots]'."
            ) from error
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="tab:blue", alpha=0.35, label="loss")
        axes.plot(self.rates, self.smoothed, color="tab:blue", label="smoothed")
        for name, color in (("suggestion", "tab:red"), ("minimum_over_10", "tab:green")):
            rate = getattr(self, name)
            if rate is not None:
                title = f"{name.replace('_', ' ')}: {rate:.2g}"
                axes.axvline(rate, color=color, linestyle="--", label=title)
        low, high = np.min(self.smoothed), np.max(self.smoothed[: _lowest(self.smoothed) + 1])
        margin = 0.15 * (high - low) or 1.0
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.set_ylim(low - margin, high + 2 * margin)  # what diverged goes out of the picture
        axes.grid(alpha=0.3)
        axes.legend()
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure


def _record(rates: Any, losses: Any, steps: int, diverged: bool) -> LearningRateRange:
    """Returns the record of a test.

    Args:
      rates: the rates that were tried, at least one.
      losses: the loss at each.
      steps: the number of rates of the whole test.
      diverged: whether it ended before these because the loss diverged.
    """
    rates, losses = np.asarray(rates, np.float64), np.asarray(losses, np.float64)
    # What diverged would raise its neighbours.
    highest = np.max(losses[: _lowest(losses) + 1])
    smoothed = _smoothed(np.minimum(losses, highest), max(1.0, _WIDTH * steps))
    lowest = _lowest(smoothed)
    found: tuple[float | None, ...] = (None, None, None)
    fall = np.max(smoothed[: lowest + 1]) - smoothed[lowest]
    if fall > _ROUNDING * np.max(np.abs(smoothed)):
        slopes = np.gradient(smoothed, np.log(rates))[: lowest + 1]
        steepest = begin = int(np.argmin(slopes))
        while begin > 0 and slopes[begin - 1] <= _SHARE * slopes[steepest]:
            begin -= 1
        found = (float(rates[steepest]), float(rates[begin]), float(rates[lowest]) / 10.0)
    return LearningRateRange(rates, losses, smoothed, diverged, *found)


def _lowest(losses: np.ndarray) -> int:
    return int(np.argmin(losses))


def _smoothed(losses: np.ndarray, width: float) -> np.ndarray:
    """Returns means over neighbours, in an array of the same length.

    Args:
      losses: the values.
      width: standard deviation of the weights, in elements.
    """
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places[None, :]) / width) ** 2)
    return weights @ losses / weights.sum(axis=1)


class RangeTest:
    """A range test while it goes on: which rate is next, and what was found.

    Args:
      rates: the rates.
      divergence: what tells divergence.
      optimizers: those whose updates count; where there are none, each call is an update.
      verbose: 0 for no progress bar.

    Attributes:
      losses: the losses of the rates that are done.
      diverged: whether the loss has diverged.
    """

    def __init__(
        self,
        rates: Sequence[float],
        divergence: float,
        optimizers: Sequence[Optimizer],
        verbose: int,
    ):
        self._rates, self._divergence, self._optimizers = rates, divergence, optimizers
        self.losses: list[float] = []
        self.diverged = False
        self._batches: list[float] = []  # losses since the last update
        self._mean = self._weight = 0.0
        self._lowest = self._first = math.inf
        self._bar = keras.utils.Progbar(
            len(rates), verbose=verbose, stateful_metrics=["rate", "loss"], unit_name="rate"
        )
        self._updates = self._counted()
        calls = (calls_per_update(o.tko.context.options) for o in optimizers)
        self._most = max(calls, default=1) + _MOST_SKIPPED

    @property
    def is_over(self) -> bool:
        """Whether all rates are done, or the loss has diverged."""
        return self.diverged or len(self.losses) == len(self._rates)

    @property
    def rate(self) -> float:
        """The rate of the next step."""
        return self._rates[len(self.losses)]

    def took(self, loss: float) -> None:
        """Takes the loss of a step.

        Raises:
          ValueError: the first one is not finite, or the first steps made no update.
        """
        self._batches.append(loss)
        updates = self._counted()
        is_stuck = len(self._batches) >= self._most
        if not math.isfinite(loss) or is_stuck:
            self._end(loss, is_stuck)
        elif updates != self._updates or not self._optimizers:
            self._updates = updates
            self._note(sum(self._batches) / len(self._batches))

    def record(self) -> LearningRateRange:
        """Returns what was found."""
        rates = self._rates[: len(self.losses)]
        return _record(rates, self.losses, len(self._rates), self.diverged)

    def _counted(self) -> int:
        return sum(o.tko.context.counter.updates_by_now() for o in self._optimizers)

    def _note(self, loss: float) -> None:
        """Takes the loss of an update, and finds out whether it diverges."""
        rate = self.rate
        self.losses.append(loss)
        self._batches.clear()
        keep = 1.0 - 10.0 / len(self._rates)
        self._mean = keep * self._mean + (1.0 - keep) * loss
        self._weight = keep * self._weight + (1.0 - keep)
        mean = self._mean / self._weight
        self._first = mean if len(self.losses) == 1 else self._first
        self._lowest = min(self._lowest, mean)
        bound = self._lowest + (self._divergence - 1.0) * abs(self._lowest)
        self.diverged = mean > max(bound, self._first)
        self._show(rate, loss)

    def _end(self, loss: float, is_stuck: bool) -> None:
        """Ends the test where the loss is not finite, or no step makes an update.

        Raises:
          ValueError: that is so from the beginning.
        """
        if not self.losses:
            what = f"the first loss is {loss}"
            if is_stuck:
                what = f"the first {len(self._batches)} steps made no update"
            raise ValueError(
                f"{TITLE}: at the rate {self._rates[0]:g} {what}, so there is nothing to "
                "compare others with. Look at the data and the weights."
            )
        self.diverged = True
        self._show(self.rate, loss)

    def _show(self, rate: float, loss: float) -> None:
        values = [("rate", rate), ("loss", loss)]
        self._bar.update(len(self.losses), values, finalize=self.is_over)
