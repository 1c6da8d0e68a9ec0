"""What was measured: figures of each side, comparisons, and where ours lost."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

OURS = "ours"


@dataclasses.dataclass(frozen=True)
class Figures:
    """Measurements of one side.

    Attributes:
      values: one for each step, in the order taken; seconds, bytes or a plain number.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value that half of all lie below."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The values that a quarter and three quarters of all lie below."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def as_dict(self) -> dict[str, Any]:
        """Returns median, quartiles, extremes, the number of values and the values."""
        low, high = self.quartiles
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "quartile_1": low,
            "quartile_3": high,
            "steps": len(self.values),
            "values": list(self.values),
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Sides that took turns in one measurement. Less is better.

    Attributes:
      suite: the suite it belongs to.
      case: what was measured, for example "bert_base, adam, eager".
      figures: by side, in the order in which they took turns; `OURS` is the one that
        the others are compared with.
      unit: "s", "B" or "" (a plain number).
      context: sides that do something else (a step without options, say): they have a
        ratio, but nobody loses to them.
      absent: why a side is missing, by side.
      first: seconds of each side's first turn in this process, by side.
      floor: seconds that moving the bytes of a step takes, where that was measured.
      note: what else must be known, for example how the sides were kept in memory.
    """

    suite: str
    case: str
    figures: Mapping[str, Figures]
    unit: str = "s"
    context: Sequence[str] = ()
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)
    first: Mapping[str, float] = dataclasses.field(default_factory=dict)
    floor: float | None = None
    note: str = ""

    def ratios(self) -> dict[str, float]:
        """Returns the median of each other side, divided by ours."""
        if OURS not in self.figures:
            return {}
        ours = self.figures[OURS].median
        return {
            side: figures.median / ours
            for side, figures in self.figures.items()
            if side != OURS and ours > 0
        }

    def losses(self) -> list[str]:
        """Returns a line for each peer whose median is below ours."""
        lines = []
        for side, ratio in self.ratios().items():
            if side in self.context or ratio >= 1.0:
                continue
            ours, peer = self.figures[OURS], self.figures[side]
            near = ours.quartiles[0] <= peer.quartiles[1]
            lines.append(
                f"{self.suite}: {self.case}: {side} {amount(peer.median, self.unit)}, ours "
                f"{amount(ours.median, self.unit)}, ratio {ratio:.2f}"
                f"{' (the quartiles overlap)' if near else ''}"
            )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Returns everything, for JSON."""
        return {
            "suite": self.suite,
            "case": self.case,
            "unit": self.unit,
            "sides": {side: figures.as_dict() for side, figures in self.figures.items()},
            "ratios": self.ratios(),
            "context": list(self.context),
            "absent": dict(self.absent),
            "first_step_seconds": dict(self.first),
            "floor_seconds": self.floor,
            "note": self.note,
        }


def amount(value: float, unit: str) -> str:
    """Returns a value with its unit: ms or s, MB or B, or the plain number."""
    if unit == "s":
        return f"{value:.2f} s" if value >= 10 else f"{1e3 * value:.4g} ms"
    if unit == "B":
        return f"{value / 1e6:.1f} MB"
    return f"{value:.4g}"


def table(comparison: Comparison) -> str:
    """Returns the lines of a comparison, a line for each side."""
    unit, ratios = comparison.unit, comparison.ratios()
    steps = max((len(f.values) for f in comparison.figures.values()), default=0)
    head = f"{comparison.suite}: {comparison.case}; {steps} value{'s' * (steps != 1)}"
    if comparison.floor is not None:
        head += f"; floor of the memory {amount(comparison.floor, 's')}"
    row = "  {:<22}{:>12}{:>12}{:>12}{:>12}{:>12}{:>8}"
    columns = ("median", "quartile 1", "quartile 3", "min", "max", "ratio")
    lines = [head, row.format("", *columns)]
    for side, figures in comparison.figures.items():
        low, high = figures.quartiles
        values = (figures.median, low, high, min(figures.values), max(figures.values))
        ratio = f"{ratios[side]:.2f}" if side in ratios else ""
        lines.append(row.format(side, *(amount(v, unit) for v in values), ratio))
    lines += [f"  {side:<22}{why}" for side, why in comparison.absent.items()]
    if comparison.note:
        lines.append(f"  {comparison.note}")
    return "\n".join(line.rstrip() for line in lines)


def closing(comparisons: Sequence[Comparison]) -> str:
    """Returns a line for each comparison that ours lost, or one that there is none."""
    lines = [line for comparison in comparisons for line in comparison.losses()]
    if not lines:
        return "Ours lost no comparison."
    return "\n".join([f"Ours lost {len(lines)}:", *(f"  LOST  {line}" for line in lines)])
