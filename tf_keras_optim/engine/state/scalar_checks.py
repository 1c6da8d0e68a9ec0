"""Whether the scalars of a saved state are numbers that this optimizer could have had."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import named_state

_ABOVE_0 = "a finite number above 0"
_FINITE = "a finite number"
_RATES = ("learning_rate", "learning_rate_multiplier")


def check(context: Context, scalars: Mapping[str, Any], keep_rates: bool = False) -> None:
    """Refuses scalars of a saved state before anything is changed.

    Counters are integers of at least 0, a loss scale is above 0, the learning rate and the
    factor on its schedule are what may be assigned to them, and everything is finite.

    Args:
      context: what the optimizer's parts share.
      scalars: what was saved, by name.
      keep_rates: whether the learning rate and the factor are not taken over.

    Raises:
      ValueError: a value is of another kind, or out of range.
    """
    here = named_state.collect(context)
    for name, value in scalars.items():
        variable = here.get(("scalars", name))
        if (keep_rates and name in _RATES) or (variable is None and context.store.is_built):
            continue
        array = np.asarray(value)
        # What an algorithm counts is made with the slots, and not known before.
        dtype = array.dtype if variable is None else variable.dtype.as_numpy_dtype
        target = np.dtype(dtype)
        expected = _expectation(context, name, target)
        if not _is_valid(array, target, expected):
            raise ValueError(
                f"{context.title}: the saved state has `{name}` = {array!r}, which must "
                f"be {expected}. It is damaged, or was changed by hand; nothing was changed. "
                "Load an earlier one."
            )


def _expectation(context: Context, name: str, target: np.dtype) -> str:
    if target.kind in "iu":
        return "an integer of at least 0"
    if name in _RATES:
        return "a finite number of at least 0"
    return _ABOVE_0 if name in context.store.guard else _FINITE


def _is_valid(array: np.ndarray, target: np.dtype, expected: str) -> bool:
    whole = target.kind in "iu"
    if array.shape != () or not (array.dtype.kind in "iu" or (_is_float(array) and not whole)):
        return False
    with np.errstate(over="ignore"):
        value = array.astype(target)
    if not np.isfinite(value) or (whole and int(value) != int(array)):
        return False
    return expected == _FINITE or bool(value > 0 or (value == 0 and expected != _ABOVE_0))


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
