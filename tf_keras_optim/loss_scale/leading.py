"""What Keras 3's own LossScaleOptimizer writes before the arrays of the optimizer inside.

A counter and a rate of its own that nothing uses, and, once it is built, the counter of steps
and the scale. Keras numbers them all, and says of none what it is.
"""

from typing import Any

import numpy as np

from tf_keras_optim.engine.state import layout

BUILT = 4
NOT_BUILT = 2
_PLACES = {"step_counter": "2", "dynamic_scale": "3"}


def number(store: Any) -> int:
    """Returns how many arrays stand before those of the optimizer inside.

    Args:
      store: what a wrapper wrote, this package's or Keras', with its HDF5 group in sight.
    """
    if is_noted(store):
        return BUILT  # this package's has its scale from the start
    keys, inside = len(list(store.keys())), layout.inside(store)
    if inside is None:
        # One that is not built has at most a counter and a rate inside.
        return BUILT if keys > BUILT else NOT_BUILT
    # Fewer may stand inside than were listed: what is left out where it says nothing.
    return BUILT if keys - len(inside) >= BUILT else NOT_BUILT


def scale(store: Any) -> dict[str, np.ndarray]:
    """Returns the counter of steps and the scale by name; nothing where there were none."""
    if number(store) != BUILT:
        return {}
    keys = set(store.keys())
    return {n: np.asarray(store[key]) for n, key in _PLACES.items() if key in keys}


def is_noted(store: Any) -> bool:
    """Whether the arrays carry this package's notes."""
    group = getattr(store, "group", store)
    return "0" in group and layout.ATTRIBUTE in getattr(group["0"], "attrs", {})
