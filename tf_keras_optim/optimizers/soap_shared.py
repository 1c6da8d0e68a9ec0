"""Which sides of a matrix SOAP has bases for, and a first update that moves nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.numerics.matrices import MatrixAxes
from tf_keras_optim.engine.update.kernels import Scalars

_SIDES = ("left", "right")
_NOTHING = (
    -1e-30
)  # a logarithm of a product of decays that is 1, and not the 0 of an unknown one


def sides_of(
    shape: Sequence[int], axes: MatrixAxes | None, arguments: Any
) -> dict[str, tuple[int, ...]]:
    """Returns the sides of a matrix that have a basis, with its shape.

    Args:
      shape: the variable's.
      axes: which of its axes make a matrix; `None` for no matrix.
      arguments: the optimizer, with `sides` and `largest_side`.
    """
    if axes is None:
        return {}
    rows, columns = axes.sizes(shape)
    sizes = {"left": rows, "right": columns}
    if arguments.sides == "shorter":
        sizes = {"left": rows} if rows <= columns else {"right": columns}
    batch = axes.batch_shape(shape)
    kept = {side: size for side, size in sizes.items() if size <= arguments.largest_side}
    return {side: (*batch, size, size) for side, size in kept.items()}


def sides_in(slots: Mapping[str, tf.Tensor]) -> list[str]:
    """Returns the sides for which there are bases among the slots of a variable."""
    return [side for side in _SIDES if side in slots]


def bases_in(slots: Mapping[str, tf.Tensor]) -> list[tf.Tensor | None]:
    """Returns the bases among some slots, of the left and of the right side."""
    return [slots.get(f"{side}_basis") for side in _SIDES]


def one_later(scalars: Scalars) -> dict[str, tf.Tensor]:
    """Returns what `prepare` gives where the first update moves, and decays, nothing.

    Bias corrections do not count it. Where a decay follows a schedule, the product of its
    values begins with the second one.

    Args:
      scalars: the numbers of this step.
    """
    first, found = scalars.step <= 1.0, dict[str, tf.Tensor]()
    for key in map(formulas.log_product_key, ("beta_1", "beta_2")):
        product = getattr(scalars, key, None)
        if product is not None:
            found[key] = tf.where(first, tf.constant(_NOTHING, product.dtype), product)
    later = {"step": tf.maximum(scalars.step - 1.0, 1.0), **found}
    rate, _ = formulas.corrected_rate(Scalars(vars(scalars), later))
    if scalars.weight_decay is not None and scalars.decoupled_weight_decay:
        found["weight_decay"] = scalars.weight_decay * tf.minimum(scalars.step - 1.0, 1.0)
    return found | {"alpha": rate}


def unless_first(
    scalars: Scalars,
    value: tf.Tensor,
    slots: Mapping[str, tf.Tensor],
    value_before: tf.Tensor,
    slots_before: Mapping[str, tf.Tensor],
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns new values; where the first update moves nothing and this is it, the old ones.

    Args:
      scalars: the numbers of this step.
      value: a variable's new value.
      slots: some new slots.
      value_before: its value before.
      slots_before: its slots before.
    """
    if scalars.start != "skip":
        return value, dict(slots)
    first = scalars.step <= 1.0
    after = {n: tf.where(first, slots_before[n], slot) for n, slot in slots.items()}
    return tf.where(first, value_before, value), after
