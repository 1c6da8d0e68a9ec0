"""Sparse gradients: adding up repeated rows, and updating only the rows that are given."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.numerics import loops, precision
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution, placement
from tf_keras_optim.engine.update.kernels import Scalars, advanced, kept_values, measured
from tf_keras_optim.engine.update.plans import UpdateInputs, UpdatePlan

_UNSIGNED = {tf.int32: tf.uint32, tf.int64: tf.uint64}


def tensors(gradient: Any) -> Any:
    """Returns a gradient as a tensor, or as slices with indices of shape [n].

    Args:
      gradient: tensor, array or number; or slices with indices of any rank, whose parts
        are tensors, arrays, lists or tuples, as `tf.IndexedSlices` takes them.
    """
    if isinstance(gradient, tf.Tensor):
        return gradient
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.convert_to_tensor(gradient)
    shape = gradient.dense_shape
    indices, values = _integers(gradient.indices), tf.convert_to_tensor(gradient.values)
    if indices.shape.rank != 1:
        inner = tf.shape(values)[tf.rank(indices) :]
        values = tf.reshape(values, tf.concat([[-1], inner], 0))
        indices = tf.reshape(indices, [-1])
    return tf.IndexedSlices(values, indices, None if shape is None else _integers(shape))


def _integers(values: Any) -> tf.Tensor:
    """Returns a tensor; an empty list without a dtype becomes one of integers."""
    hint = None if hasattr(values, "dtype") else tf.int32
    return tf.convert_to_tensor(values, dtype_hint=hint)


def times(gradient: Any, factor: Any) -> Any:
    """Multiplies a gradient by a number or 0-d tensor, in float32 at least.

    Args:
      gradient: as for `tensors`.
      factor: the factor.
    """
    gradient = tensors(gradient)
    if isinstance(gradient, tf.IndexedSlices):
        product = times(gradient.values, factor)
        return tf.IndexedSlices(product, gradient.indices, gradient.dense_shape)
    gradient = loops.widened(gradient)
    return gradient * tf.cast(factor, gradient.dtype)


def check(entry: VariableState, gradient: tf.IndexedSlices) -> list[Any]:
    """Returns the operations that raise if a gradient names a row that does not exist.

    There are none under XLA, which drops them, and none where the variable is not on a CPU:
    there TensorFlow's own operations leave such rows out too, and looking would make the
    device wait.

    Args:
      entry: the variable.
      gradient: what `tensors` returned.
    """
    variable, path = distribution.local(entry.variable), entry.path
    kind = tf.DeviceSpec.from_string(variable.device or "").device_type
    if distribution.in_xla() or kind not in (None, "CPU"):
        return []
    rows, indices = variable.shape[0], gradient.indices
    if indices.dtype not in _UNSIGNED:
        indices = tf.cast(indices, tf.int64)
    # A negative number, read as an unsigned one, is larger than every row: one pass finds both.
    unsigned = _UNSIGNED[indices.dtype]
    last = tf.reduce_max(tf.bitcast(indices, unsigned))
    message = (
        f"The gradient of variable {path!r}, which has {rows} rows, names a row that does not "
        "exist; nothing was changed. Look for an index that is negative or too large in what "
        "the table was read with. The row:"
    )
    condition = tf.less(last, tf.constant(rows, unsigned))
    if rows == 0:
        condition = tf.equal(tf.size(indices), 0)
    data = [message, tf.bitcast(last, indices.dtype)]
    return [tf.raw_ops.Assert(condition=condition, data=data)]


def dense(gradient: tf.IndexedSlices, rows: int) -> tf.Tensor:
    """Adds repeated rows up; rows that are not given have a gradient of zero.

    Args:
      gradient: what `tensors` returned.
      rows: the variable's first dimension.

    Returns:
      Tensor of the variable's shape.
    """
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, rows)


def summed(gradient: tf.IndexedSlices, rows: int) -> tf.IndexedSlices:
    """Adds repeated rows up.

    Args:
      gradient: what `tensors` returned, with n rows.
      rows: the variable's first dimension.

    Returns:
      Slices in which no row stands twice. Under XLA, whose shapes are static, there
      are n of them again: the surplus ones are zero, with the index `rows`, which XLA
      neither reads nor writes.
    """
    indices, values = gradient.indices, gradient.values
    if not distribution.in_xla():
        unique, places = tf.unique(indices)
        sums = tf.math.unsorted_segment_sum(values, places, tf.size(unique))
        return tf.IndexedSlices(sums, unique)
    order = tf.argsort(indices, stable=True)
    ascending = tf.gather(indices, order)
    is_new = tf.cast(ascending[1:] != ascending[:-1], indices.dtype)
    places = tf.cumsum(tf.concat([tf.zeros_like(ascending[:1]), is_new], 0))
    sums = tf.math.unsorted_segment_sum(tf.gather(values, order), places, tf.size(indices))
    unique = tf.math.unsorted_segment_max(ascending, places, tf.size(indices))
    surplus = tf.cast(rows, indices.dtype)
    return tf.IndexedSlices(sums, tf.where(unique < 0, surplus, unique))


class Rows:
    """Runs a pure, elementwise `update` on the rows of a table that have a gradient.

    The work is that of a variable with so many rows; the rest of the table, of its
    slots and of its average is neither read nor written. The number of rows varies
    from step to step, so nothing here is compiled on its own; inside a compiled
    function it is part of that.

    Args:
      algorithm: whose pure `update` is run.
      static: gives the declared hyperparameters by name.
    """

    def __init__(self, algorithm: Algorithm, static: Callable[[], dict[str, Any]]):
        self._algorithm = algorithm
        self._static = static

    def run(self, entry: VariableState, plan: UpdatePlan, inputs: UpdateInputs) -> None:
        """Updates rows of one variable, of its slots and of its average as a plan says."""
        indices, scalars = inputs.gradient.indices, self._scalars(plan, inputs)
        averages = distribution.local(entry.average) if plan.averages else None

        def write(table: tf.Variable, rows: tf.Tensor) -> None:
            table.scatter_update(tf.IndexedSlices(rows, indices))

        with placement.beside(distribution.local(entry.variable)):
            value, before = _read(entry, indices, scalars)
            value, after, average = advanced(
                self._algorithm,
                plan,
                scalars,
                dataclasses.replace(inputs, gradient=inputs.gradient.values),
                value,
                before,
                None if averages is None else averages.sparse_read(indices),
            )
            kept = kept_values(value, after, scalars, plan, inputs.seed)
            for name, variable in {"": entry.variable, **entry.slots}.items():
                table = distribution.local(variable)
                write(table, kept(name, table.dtype))
            if averages is not None:
                write(averages, average)
            if entry.master is not None:
                write(distribution.local(entry.master), value)

    def measure(
        self, entry: VariableState, plan: UpdatePlan, inputs: UpdateInputs
    ) -> dict[str, tf.Tensor]:
        """Returns what the algorithm's `measure` gives for the rows; changes nothing."""
        scalars = self._scalars(plan, inputs)
        with placement.beside(distribution.local(entry.variable)):
            value, before = _read(entry, inputs.gradient.indices, scalars)
            rows = dataclasses.replace(inputs, gradient=inputs.gradient.values)
            return measured(self._algorithm, plan, scalars, rows, value, before)

    def _scalars(self, plan: UpdatePlan, inputs: UpdateInputs) -> Scalars:
        return Scalars(self._static() | dict(plan.traits), inputs.scalars)


def _read(
    entry: VariableState, indices: tf.Tensor, scalars: Scalars
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns rows of a table and of its slots before an update."""

    def read(table: tf.Variable) -> tf.Tensor:
        return distribution.local(table).sparse_read(indices)

    master = None if entry.master is None else read(entry.master)
    value = precision.widest(read(entry.variable), master, scalars.learning_rate.dtype)
    return value, {name: read(slot) for name, slot in entry.slots.items()}
