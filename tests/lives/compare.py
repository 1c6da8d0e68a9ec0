"""What must be equal at the end of a life."""

import numpy as np

_HALF = {"mixed_float16": 2.0**-10, "mixed_bfloat16": 2.0**-7, "float16": 2.0**-10,
         "bfloat16": 2.0**-7}  # fmt: skip
_ROUNDINGS = 64  # of an update, its gradient included


def exactly(found, expected):
    """Lines that say where two snapshots differ."""
    lines = [
        f"{name}: only in the uninterrupted life" for name in expected if name not in found
    ]
    lines += [f"{name}: only in the interrupted life" for name in found if name not in expected]
    for name, value in expected.items():
        other = found.get(name)
        if other is None or (other.shape == value.shape and _equal(other, value)):
            continue
        if other.shape != value.shape:
            lines.append(f"{name}: shape {other.shape}, uninterrupted {value.shape}")
            continue
        distance = np.max(np.abs(other.astype("d") - value.astype("d")))
        lines.append(
            f"{name}: differs by {distance:.3g} ({_few(other)}, uninterrupted {_few(value)})"
        )
    return lines


def closely(life, found, expected, updates):
    """Lines that say where weights differ by more than the precisions of two policies."""
    lines = []
    narrow = max(_HALF.get(policy, 0.0) for policy in (life.policy, life.load_policy))
    for name, value in expected.items():
        if not name.startswith("weight"):
            continue
        other, value = found[name].astype("d"), value.astype("d")
        bound = _ROUNDINGS * updates * narrow * np.max(np.abs(value), initial=0.0)
        if not np.max(np.abs(other - value), initial=0.0) <= bound:
            lines.append(f"{name}: {_few(other)}, uninterrupted {_few(value)}")
    return lines


def _equal(a, b):
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _few(array):
    return np.array2string(np.ravel(array)[:3], precision=6)


def tolerance(life, updates):
    """How far from float64 a weight may be, in units of the farthest move of its variable.

    Each update rounds, and so does its gradient, which the next ones see.
    """
    unit = _HALF.get(life.policy, 2.0**-53 if life.policy == "float64" else 2.0**-24)
    return _ROUNDINGS * max(updates, 1) * unit


def with_float64(life, found, expected, start):
    """Lines that say where the weights are too far from those of the float64 run."""
    lines = []
    updates = sum(life.epochs) * life.steps
    unit = _HALF.get(life.policy, 2.0**-24)
    for i, (weight, begun) in enumerate(zip(expected, start)):
        value = found[f"weight {i}"].astype("d")
        if value.shape != weight.shape:
            lines.append(f"weight {i}: shape {value.shape}, in float64 {weight.shape}")
            continue
        moved = np.max(np.abs(weight - begun), initial=0.0)
        # The weight itself is rounded twice in an update, for its decay and its step.
        rounding = 2 * max(updates, 1) * unit * np.max(np.abs(weight), initial=0.0)
        bound = tolerance(life, updates) * moved + rounding
        error = np.max(np.abs(value - weight), initial=0.0)
        if not error <= bound:
            lines.append(
                f"weight {i}: {error:.3g} from float64, allowed {bound:.3g}, moved {moved:.3g} "
                f"({_few(value)}, in float64 {_few(weight)})"
            )
    return lines
