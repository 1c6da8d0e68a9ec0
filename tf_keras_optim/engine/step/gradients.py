"""Gradients as they come in: shapes are checked, dtypes narrowed to what is used."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.update import rows


def check(entries: Sequence[VariableState], gradients: Sequence[Any]) -> list[tf.Operation]:
    """Refuses gradients of another shape or of a dtype that is not real floating.

    Args:
      entries: the variables.
      gradients: their gradients.

    Returns:
      Assertions about the shapes that are known only when the step runs; usually none.

    Raises:
      ValueError: a shape or dtype is wrong.
    """
    return [op for pair in zip(entries, gradients) for op in _checks(*pair)]


def in_shape(entry: VariableState, gradient: Any) -> Any:
    """Returns a gradient of the variable's shape and in no wider dtype than is computed in.

    Args:
      entry: the variable.
      gradient: its gradient; its shape has been checked.
    """
    if isinstance(gradient, tf.IndexedSlices):
        shape = [gradient.indices.shape[0], *entry.variable.shape[1:]]
        values = not_wider(_in_shape(gradient.values, shape), entry.dtype)
        if values is gradient.values:
            return gradient
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return not_wider(_in_shape(gradient, entry.variable.shape.as_list()), entry.dtype)


def taken(entry: VariableState, gradient: Any, keeps_rows: bool) -> Any:
    """Returns a gradient as an update takes it: no row stands twice in it.

    Args:
      entry: the variable.
      gradient: its gradient; its shape has been checked.
      keeps_rows: whether slices stay slices; otherwise they become a dense gradient.
    """
    gradient = in_shape(entry, gradient)
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    if gradient.dtype.size < entry.dtype.size:
        gradient = tf.cast(gradient, entry.dtype)
    return (rows.summed if keeps_rows else rows.dense)(gradient, entry.variable.shape[0])


def not_wider(gradient: Any, dtype: tf.DType) -> Any:
    """Returns a gradient in a dtype if its own is wider, else as it is.

    What is tested for being finite must be what is used: a float64 number may be too large
    for float32.
    """
    if gradient.dtype.size <= dtype.size:
        return gradient
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.cast(gradient.values, dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return tf.cast(gradient, dtype)


def _in_shape(tensor: tf.Tensor, shape: list[int | None]) -> tf.Tensor:
    """Returns a tensor whose static shape is a given one, with at most one unknown size."""
    known = tensor.shape
    if known.rank is not None and all(
        size is not None or wanted is None for size, wanted in zip(known, shape)
    ):
        return tensor
    if distribution.in_xla():
        return tf.ensure_shape(tensor, shape)
    # From another operation TensorFlow would infer that the tensor has this shape already,
    # and would leave out the assertion that it has.
    return tf.reshape(tensor, [-1 if size is None else size for size in shape])


def _checks(entry: VariableState, gradient: Any) -> list[tf.Operation]:
    shape, expected = gradient.shape, entry.variable.shape
    values, rows = gradient, expected[:1]
    if isinstance(gradient, tf.IndexedSlices):
        values, rows = gradient.values, gradient.indices.shape[:1]
        if shape.rank is None:
            shape = tf.TensorShape([None]).concatenate(values.shape[1:])
    whole = rows.concatenate(expected[1:])
    if not (shape.is_compatible_with(expected) and values.shape.is_compatible_with(whole)):
        raise ValueError(
            f"The gradient of variable {entry.path!r} has shape {shape}. "
            f"Expected the variable's shape {expected}: check the order of "
            "the (gradient, variable) pairs."
        )
    if not gradient.dtype.is_floating:
        raise ValueError(
            f"The gradient of variable {entry.path!r} has dtype {gradient.dtype.name}. "
            "Expected a floating-point dtype such as float32."
        )
    tail_is_known = values.shape.rank is not None and values.shape[1:].is_fully_defined()
    if (tail_is_known and (values is not gradient or values.shape == whole)) or (
        distribution.in_xla()  # shapes are known when it compiles, and `in_shape` looks at them
    ):
        return []
    found = tf.shape(values)
    wanted = tf.constant(expected.as_list(), tf.int32)
    if values is not gradient:
        wanted = tf.concat([tf.shape(gradient.indices), wanted[1:]], 0)
    same = tf.equal(found[: tf.size(wanted)], wanted[: tf.size(found)])
    same = tf.logical_and(tf.equal(tf.size(found), tf.size(wanted)), tf.reduce_all(same))
    message = f"The gradient of variable {entry.path!r} has the wrong shape (found, expected):"
    # Without the condition that `tf.debugging` puts around it, whose content nothing waits for.
    return [tf.raw_ops.Assert(condition=same, data=[message, found, wanted])]
