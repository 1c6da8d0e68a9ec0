"""One page of pictures of a run. Needs matplotlib."""

import importlib.util
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_Records = Sequence[Mapping[str, float]]
_GROUPS = "/groups/"


def draw(records: _Records, path: str | os.PathLike | None) -> Any:
    """Draws a run, and returns the `matplotlib.figure.Figure`.

    Args:
      records: numbers by name, in order.
      path: the file to write, or `None`.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: there are no records.
    """
    if not records:
        raise ValueError(
            "`OptimizerMonitor.plot`: nothing was recorded yet. Give the monitor to `fit` "
            "first: `callbacks=[monitor]`."
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            "`OptimizerMonitor.plot` needs matplotlib: install tf_keras_optim[plots]."
        )
    from matplotlib.figure import Figure

    names = dict.fromkeys(name for record in records for name in record)
    panels = [
        ("Loss", ["loss"], "linear"),
        ("Learning rate", _with_groups("learning_rate", names), "linear"),
        ("L2 norm of the gradient", ["gradient_norm"], "log"),
        ("Update / weights", _with_groups("update_ratio", names), "log"),
        ("Share of clipped updates", ["clipped_share"], "linear"),
        ("Loss scale", ["loss_scale"], "log"),
        ("Skipped steps", ["skipped_steps"], "linear"),
    ]
    panels = [(title, known, scale) for title, given, scale in panels
              if (known := [name for name in given if name in names])]  # fmt: skip
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(10, 2.6 * rows + 0.4), layout="constrained")
    for place, (title, shown, scale) in enumerate(panels):
        axes = figure.add_subplot(rows, 2, place + 1)
        axes.set_title(title, fontsize=10)
        for name in shown:
            values = _shares(records) if name == "clipped_share" else _column(records, name)
            if scale == "log":
                values = [value if value > 0.0 else math.nan for value in values]
            label = name.partition(_GROUPS)[2] or "all"
            axes.plot(*_broken(_column(records, "update"), values), ".-", label=label)
        if scale == "log" and any(v > 0.0 for name in shown for v in _column(records, name)):
            axes.set_yscale("log")
        if len(shown) > 1:
            axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
        if place >= len(panels) - 2:
            axes.set_xlabel("update")
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure


def _with_groups(name: str, names: Iterable[str]) -> list[str]:
    return [name, *(other for other in names if other.startswith(name + _GROUPS))]


def _column(records: _Records, name: str) -> list[float]:
    return [record.get(name, math.nan) for record in records]


def _shares(records: _Records) -> list[float]:
    """Returns which share of the updates since the record before was clipped."""
    found, before = [], {"update": 0.0, "clipped_updates": 0.0}
    for record in records:
        clipped = record.get("clipped_updates", math.nan) - before["clipped_updates"]
        updates = record["update"] - before["update"]
        share = clipped / updates if updates > 0.0 else math.nan
        found.append(share if 0.0 <= share <= 1.0 else math.nan)
        before = {name: record.get(name, math.nan) for name in before}
    return found


def _broken(steps: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Returns the points of a line with gaps where a run began anew."""
    xs, ys = list[float](), list[float]()
    for step, value in zip(steps, values):
        if xs and step < xs[-1]:
            xs.append(math.nan)
            ys.append(math.nan)
        xs.append(step)
        ys.append(value)
    return xs, ys
