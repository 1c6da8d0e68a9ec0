"""L2 norms of tensors whose squares may be out of the range of their dtype.

A norm is first computed as the root of the plain sum of squares, in one pass. Only where that
sum is infinite or too small to be trusted, the elements are multiplied by a power of two first.
XLA sums the squares of float32 in float64, which takes about as long.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_keras_optim.engine.numerics import loops
from tf_keras_optim.engine.tensorflow import distribution, placement

_EXPONENTS = {tf.float32: 100, tf.float64: 800}  # of the unit of a tensor out of range
_LARGE, _SMALL = 1.2, -0.8  # powers of the unit: sums of squares beyond are not trusted


class Norms(NamedTuple):
    """The L2 norms of several tensors: the products of two factors, both in range.

    Attributes:
      units: float64 [n]: 1, or a power of two by which the elements can be divided.
      multiples: float64 [n]: the norms of the elements in these units.
    """

    units: tf.Tensor
    multiples: tf.Tensor

    @property
    def values(self) -> tf.Tensor:
        """The norms, float64 [n]."""
        return self.units * self.multiples

    def total(self) -> "Norms":
        """Returns the norm of all tensors together, as that of one tensor."""
        unit = tf.reduce_max(self.units, keepdims=True)
        parts = self.multiples * (self.units / unit)
        return Norms(unit, tf.sqrt(tf.reduce_sum(tf.square(parts), keepdims=True)))


def squares(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the plain sum of squares of each tensor, float64 [n].

    Outside XLA they are infinite or 0 where float32 is too narrow for them.

    Args:
      tensors: at least one, of any floating dtypes.
    """
    sums = [_half_square(loops.widened(tensor)) for tensor in tensors]
    return 2.0 * _stacked(sums)


def norms(
    tensors: Sequence[tf.Tensor],
    sums: tf.Tensor | None = None,
    least: float | tf.Tensor = 0.0,
) -> Norms:
    """Returns the L2 norms; finite where the elements are.

    Args:
      tensors: at least one, of any floating dtypes.
      sums: what `squares` returned for them, if that is known.
      least: norms far below this number need not be told from 0.
    """
    sums = squares(tensors) if sums is None else sums
    wide = [loops.widened(tensor) for tensor in tensors]
    largest = _powers(_LARGE, wide)
    smallest: tf.Tensor | None = _powers(_SMALL, wide)
    if tf.is_tensor(least):
        enough = least > 2.0 ** (_SMALL / 3 * _EXPONENTS[tf.float32])
        smallest = tf.where(enough, tf.zeros_like(sums), smallest)
    elif least > 2.0 ** (_SMALL / 3 * _EXPONENTS[tf.float32]):
        smallest = None

    def units() -> tf.Tensor:
        found = tf.where(sums > largest, _powers(1.0, wide), tf.ones_like(sums))
        if smallest is None:
            return found
        return tf.where(sums < smallest, _powers(-1.0, wide), found)

    def plain() -> Norms:
        return Norms(tf.ones_like(sums), tf.sqrt(sums))

    def scaled() -> Norms:
        by = units()
        parts = zip(wide, tf.unstack(1.0 / by))
        halves = [_half_square(tensor * tf.cast(f, tensor.dtype)) for tensor, f in parts]
        return Norms(by, tf.sqrt(2.0 * _stacked(halves)))

    if distribution.in_xla() and all(tensor.dtype == tf.float32 for tensor in wide):
        by = units()
        return Norms(by, tf.sqrt(sums) / by)
    is_plain = sums <= largest
    if smallest is not None:
        is_plain = tf.logical_and(is_plain, sums >= smallest)
    return tf.cond(tf.reduce_all(is_plain), plain, scaled)


def norm(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the L2 norm of all elements, 0-d, in float64."""
    return norms([tensor]).values[0]


def countable(tensor: tf.Tensor) -> tf.Tensor:
    """Returns a tensor, limited so that sums of squares of rows and columns are in range."""
    largest = math.sqrt(tensor.dtype.max / max(4 * max(tensor.shape[-2:], default=1), 1))
    return tf.clip_by_value(tensor, -largest, largest)


def root_mean_square(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the root of the mean of the squares of all elements, 0-d, in its dtype."""
    root = norm(tensor) / tf.sqrt(tf.cast(tf.size(tensor), tf.float64))
    return tf.cast(root, tensor.dtype)


def _half_square(tensor: tf.Tensor) -> tf.Tensor:
    """Returns half the sum of squares, without a temporary of the tensor's size."""
    if not distribution.in_xla():
        with placement.where(tensor):
            return tf.nn.l2_loss(tensor)
    return 0.5 * loops.total(tf.square(tf.cast(tensor, tf.float64)))


def _stacked(scalars: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns 0-d tensors as float64 [n]."""
    if len({scalar.dtype for scalar in scalars}) > 1:
        scalars = [tf.cast(scalar, tf.float64) for scalar in scalars]
    return tf.cast(tf.stack(scalars), tf.float64)


def _powers(share: float, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns for each tensor a power of its unit, float64 [n]."""
    exponents = [share * _EXPONENTS[tensor.dtype] for tensor in tensors]
    return tf.constant([2.0**exponent for exponent in exponents], tf.float64)
