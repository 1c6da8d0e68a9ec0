"""The ratios of a run as bars. Needs matplotlib."""

import importlib.util
from collections.abc import Sequence

from tools.bench.results import Comparison


def require_picture(path: str, flag: str = "plot") -> None:
    """Raises ValueError for a path that `draw` could not write; `flag` gave it."""
    if not path.endswith((".png", ".svg", ".pdf")):
        raise ValueError(
            f"--{flag}: expected a name that ends in .png, .svg or .pdf. Received: {path!r}."
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(f"--{flag} needs matplotlib: install tf_keras_optim[plots].")


def draw(comparisons: Sequence[Comparison], path: str) -> None:
    """Writes a picture with a panel for each suite and a bar for each ratio.

    Args:
      comparisons: what was measured; those without a ratio are left out.
      path: the file; its ending decides the format.
    """
    from matplotlib.figure import Figure

    bars: dict[str, list[tuple[str, float]]] = {}
    for comparison in comparisons:
        for side, ratio in comparison.ratios().items():
            if side not in comparison.context:
                bars.setdefault(comparison.suite, []).append(
                    (f"{comparison.case}: {side}", ratio)
                )
    heights = [len(rows) for rows in bars.values()] or [1]
    height = 1.0 + sum(0.22 * n + 0.9 for n in heights)
    figure = Figure(figsize=(12, height), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (suite, rows) in zip(panels, bars.items()):
        labels, ratios = zip(*rows)
        colors = ["tab:green" if ratio >= 1 else "tab:red" for ratio in ratios]
        lengths = [ratio - 1 for ratio in ratios]
        panel.barh(range(len(rows)), lengths, left=1.0, color=colors)
        panel.set_yticks(range(len(rows)), labels, fontsize=6)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.axvline(1.0, color="black", linewidth=0.8)
        panel.set_title(f"{suite}: peer / ours (left of 1: ours lost)", fontsize=9)
    figure.savefig(path, bbox_inches="tight", dpi=110)
