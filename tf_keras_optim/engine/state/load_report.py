"""What became of a saved state."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

RATES = ("learning_rate", "learning_rate_multiplier")
_MOST_LINES = 20


@dataclasses.dataclass
class LoadReport:
    """Report of what was loaded from a saved state, and what was not.

    Every entry is a line of text that names the variable, the slot, shape and dtype.

    Attributes:
      loaded: what was taken over; of an optimizer that had no slots yet, their start.
      missing: what this optimizer has and the saved state has not; it stays as it is,
        but an average starts from the current weights.
      unexpected: what the saved state has and this optimizer has not; left out.
      mismatched: what has another shape, or was saved by another class or for another
        kind of learning rate. Left out, except for slots of another class that fit and
        are the same quantity; see `Optimizer.slot_meanings`.
      cast: what was converted to another floating-point dtype.
      kept: hyperparameters that were kept as they are, on request.
      waiting: whether the state waits for `build`; the lists are empty then.
    """

    loaded: list[str] = dataclasses.field(default_factory=list)
    missing: list[str] = dataclasses.field(default_factory=list)
    unexpected: list[str] = dataclasses.field(default_factory=list)
    mismatched: list[str] = dataclasses.field(default_factory=list)
    cast: list[str] = dataclasses.field(default_factory=list)
    kept: list[str] = dataclasses.field(default_factory=list)
    waiting: bool = False

    @property
    def fits(self) -> bool:
        """Whether the saved state is exactly what this optimizer keeps."""
        return not (self.missing or self.unexpected or self.mismatched or self.cast)

    def differences(self) -> str:
        """Returns the differences as lines of text."""
        titles = {
            "mismatched": "different",
            "missing": "here, but not in the saved state",
            "unexpected": "in the saved state, but not here",
            "cast": "of another dtype",
        }
        lines = []
        for kind, title in titles.items():
            found = getattr(self, kind)
            lines += [f"  {title}:"] * bool(found)
            lines += [f"    {line}" for line in found[:_MOST_LINES]]
            if len(found) > _MOST_LINES:
                lines.append(f"    ... and {len(found) - _MOST_LINES} more")
        return "\n".join(lines)


def compare_rates(
    here: dict[Any, Any],
    saved: dict[Any, Any],
    report: LoadReport,
    optional: frozenset[str],
) -> None:
    """Takes the rates out of both sides where one is a number and the other a schedule."""
    ours = [key for key in here if key[0] == "scalars" and key[1] in RATES]
    theirs = [key for key in saved if key[0] == "scalars" and key[1] in RATES]
    if theirs or not {key[1] for key in ours} <= optional:
        kinds = [" and ".join(key[1] for key in keys) or "none" for keys in (theirs, ours)]
        report.mismatched.append(
            f"learning rate: saved as {kinds[0]}, here {kinds[1]} (a number on one side, a "
            "schedule or callable on the other; `keep_hyperparameters=True` keeps this one)"
        )
    for key in ours:
        here.pop(key)
    for key in theirs:
        saved.pop(key)


def described(key: tuple[str, ...], value: Any) -> str:
    """Returns one line: the variable, the slot, shape and dtype."""
    name = " ".join(key[1:])
    return f"{name} {tuple(value.shape)} {np.dtype(dtype_of(value)).name}"


def dtype_of(value: Any) -> Any:
    """Returns the NumPy dtype of an array or variable."""
    return value.dtype.as_numpy_dtype if isinstance(value.dtype, tf.DType) else value.dtype
