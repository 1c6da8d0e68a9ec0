"""Sums, orders and choices that keep XLA's loops on CPUs close to the memory's speed.

The numbers are those of the plain expressions. On CPUs XLA sums a whole tensor one element
after the other, which takes four times as long as reading it; a product of a matrix and a
vector of ones it sums in parallel, and what is summed is computed on the way.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.tensorflow import distribution, placement

_ROW = 1024  # elements summed in one go; 768 to 1536 measured alike, others slower
_LEAST = 8 * _ROW
_SHORT_ROW = _LEAST // 32  # of fewer elements: there are less than 32 rows
_WORTH_A_CONDITION = 16 * _ROW  # elements that are divided as fast as a condition is taken
_for_accelerators = contextvars.ContextVar("for_accelerators", default=False)


@contextlib.contextmanager
def for_accelerators() -> Iterator[None]:
    """Traces as where there are accelerators, in this block: what is traced runs elsewhere."""
    token = _for_accelerators.set(True)
    try:
        yield
    finally:
        _for_accelerators.reset(token)


def widened(tensor: tf.Tensor) -> tf.Tensor:
    """Returns a floating tensor in float32 at least."""
    if tensor.dtype.size >= 4:
        return tensor
    with placement.where(tensor):
        return tf.cast(tensor, tf.float32)


def total(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the sum of all elements, 0-d, in float32 at least."""
    tensor = widened(tensor)
    size = tensor.shape.num_elements()
    is_short = size is None or size < _LEAST
    as_it_is = not size or (is_short and tensor.dtype != tf.float64)
    if as_it_is or not _in_xla_on_cpus():
        with placement.where(tensor):
            return tf.reduce_sum(tensor)
    # Of 32 elements or more that are summed XLA writes all down, and sums windows of 32, with
    # a test of bounds for each. In float32 that saves digits; float64 has enough.
    flat = tf.reshape(tensor, [size])
    row = _SHORT_ROW if is_short else _ROW
    rest = size % row
    sums = [_of_rows(flat[: size - rest], row)] if size >= row else []
    sums += [_of_rows(flat[size - rest :], rest)] if rest else []
    return tf.add_n(sums)


def _of_rows(flat: tf.Tensor, row: int) -> tf.Tensor:
    """Returns the sum of the elements of whole rows, 0-d."""
    rows = tf.reshape(flat, [-1, row])
    return tf.reduce_sum(tf.linalg.matvec(rows, tf.ones([row], flat.dtype)))


def divided(tensor: tf.Tensor, divisor: tf.Tensor) -> tf.Tensor:
    """Returns a tensor over a power of two that is usually 1, then without a pass over it.

    What follows may multiply by a large number: TensorFlow joins two products in a row, so
    outside XLA this is a quotient.

    Args:
      tensor: floating tensor.
      divisor: 0-d tensor of its dtype.
    """
    if distribution.in_xla():
        return tensor * (1.0 / divisor)
    size = tensor.shape.num_elements()
    if size is not None and size < _WORTH_A_CONDITION:
        return tensor / divisor
    return tf.cond(tf.equal(divisor, 1.0), lambda: tensor, lambda: tensor / divisor)


def after(value: tf.Tensor, number: Any) -> Any:
    """Returns `number` as it is, but known only once `value` is.

    Where a new value needs an old slot, the new slot must not be there before, or XLA
    copies the old one. A factor of the slot that waits for the value gives that order.

    Args:
      value: tensor of any shape.
      number: Python number or 0-d tensor of the dtype of `value`.
    """
    if not value.shape.num_elements() or not _in_xla_on_cpus():
        return number
    element = tf.reshape(value, [-1])[0]
    return tf.where(element < tf.constant(-math.inf, value.dtype), element, number)


def choose(
    condition: tf.Tensor, then: Callable[[], None], otherwise: Callable[[], None] | None = None
) -> None:
    """Calls one of two functions that change variables.

    Outside XLA it is a condition. XLA copies all that a condition may change, but not what a
    loop changes; so there it is two loops of one round or none.

    Args:
      condition: 0-d bool tensor.
      then: called where it is true.
      otherwise: called where it is not, if given.
    """
    if not distribution.in_xla():
        tf.cond(condition, _returning(then), _returning(otherwise or (lambda: None)))
        return
    branches = [(condition, then)]
    if otherwise is not None:
        branches.append((tf.logical_not(condition), otherwise))
    for due, branch in branches:
        run = _returning(branch)
        tf.while_loop(lambda due: due, lambda _, run=run: [run()], [due])


def _returning(action: Callable[[], None]) -> Callable[[], tf.Tensor]:
    """Returns a function that calls another and returns a tensor, which is false."""

    def run() -> tf.Tensor:
        action()
        return tf.constant(False)

    return run


def _in_xla_on_cpus() -> bool:
    """Whether XLA compiles, and there are only CPUs.

    Elsewhere products of float32 may have fewer digits, and new values and slots can be
    computed in one loop, which an order between them would prevent.
    """
    if _for_accelerators.get():
        return False
    return distribution.in_xla() and all(
        device.device_type == "CPU" for device in tf.config.list_logical_devices()
    )
