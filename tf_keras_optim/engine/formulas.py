"""The arithmetic that every optimizer shares, each formula once.

All functions are pure: tensors in, tensors out. They run inside compiled kernels
as well as around a user-written `update_step`.
"""

import math
from typing import Any

import tensorflow as tf

OPERAND = "operand_"  # begins the names of scalars that only a training operation takes


def one_minus_power(rate: Any, step: tf.Tensor) -> tf.Tensor:
    """Returns `1 - rate ** step`, without the loss of digits of that expression.

    In float32, `1 - 0.999 ** 1` is off by 1.3e-5 of its value; this form keeps
    full precision.

    Args:
      rate: number in [0, 1), or 0-d tensor.
      step: 0-d floating tensor, counted from 1.

    Returns:
      0-d tensor of the dtype of `step`.
    """
    if isinstance(rate, tf.Tensor):
        return -tf.math.expm1(step * tf.math.log(rate))
    if rate == 0.0:
        return tf.ones_like(step)
    return -tf.math.expm1(step * tf.constant(math.log(rate), step.dtype))


def rounded(rate: Any, dtype: tf.DType) -> Any:
    """Returns the number that a Python number becomes in a tensor; a tensor as it is."""
    return rate if isinstance(rate, tf.Tensor) else float(dtype.as_numpy_dtype(rate))


def operands(scalars: Any, *names: str) -> dict[str, tf.Tensor]:
    """Returns hyperparameters as a training operation takes them, made once for all variables.

    Args:
      scalars: the numbers of this step.
      *names: names of hyperparameters.

    Returns:
      0-d tensors of the dtype of `scalars.step`, under "operand_" and the name.
    """
    dtype = scalars.step.dtype
    return {
        f"{OPERAND}{name}": tf.convert_to_tensor(getattr(scalars, name), dtype)
        for name in names
    }


def moment(before: tf.Tensor, sample: tf.Tensor, decay: Any) -> tf.Tensor:
    """Moves a running moment towards a sample: `m + (x - m) * (1 - decay)`."""
    return before + (sample - before) * (1.0 - decay)


def decayed(value: tf.Tensor, weight_decay: Any, learning_rate: tf.Tensor) -> tf.Tensor:
    """Decoupled weight decay (Loshchilov & Hutter 2019): `w - w * decay * rate`."""
    return value - value * weight_decay * learning_rate


def penalized(gradient: tf.Tensor, value: tf.Tensor, weight_decay: Any) -> tf.Tensor:
    """The gradient with that of an L2 penalty: `g + decay * w`."""
    return gradient + weight_decay * value


def root(square: tf.Tensor, epsilon: Any, inside: bool) -> tf.Tensor:
    """Returns `sqrt(square + epsilon)`, or `sqrt(square) + epsilon`."""
    return tf.sqrt(square + epsilon) if inside else tf.sqrt(square) + epsilon


def conditioned(
    gradient: tf.Tensor, scale: tf.Tensor | None, clipvalue: float | None
) -> tf.Tensor:
    """Applies the common factor (unscaling, mean, norm clip), then the value clip."""
    if scale is not None:
        gradient = gradient * scale
    if clipvalue is not None:
        gradient = tf.clip_by_value(gradient, -clipvalue, clipvalue)
    return gradient


def averaged(average: tf.Tensor, value: tf.Tensor, momentum: tf.Tensor) -> tf.Tensor:
    """Exponential moving average: `momentum * average + (1 - momentum) * value`."""
    return momentum * average + (1.0 - momentum) * value


def clip_factor(norm: tf.Tensor, limit: float) -> tf.Tensor:
    """Returns `limit / max(norm, limit)`: at most 1, NaN for a non-finite norm.

    A norm that is not finite must not turn into a factor of zero, which would
    hide the overflow.
    """
    factor = limit / tf.maximum(norm, limit)
    return factor + (norm - norm)
