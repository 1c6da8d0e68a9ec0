"""The arithmetic that every optimizer shares, each formula once.

All functions are pure: tensors in, tensors out. They run inside compiled kernels
as well as around a user-written `update_step`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.numerics import loops, norms

OPERAND = "operand_"  # begins the names of scalars that only a training operation takes


def log_product_key(name: str) -> str:
    """Returns the name of the scalar with the logarithm of the product of a decay's values."""
    return f"{name}_log_product"


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


def bias_correction(scalars: Any, name: str, rate: Any = None) -> tf.Tensor:
    """Returns how much of what it averages a moment holds: one minus the product of its decays.

    Args:
      scalars: the numbers of this step.
      name: the hyperparameter that is the decay; its class lists it in `corrected`.
      rate: another value for it, where it is constant: a rounded one.
    """
    product = getattr(scalars, log_product_key(name), None)
    if product is not None:
        return -tf.math.expm1(product)
    return one_minus_power(getattr(scalars, name) if rate is None else rate, scalars.step)


def corrected_rate(
    scalars: Any,
    beta_1: Any = None,
    beta_2: Any = None,
    names: tuple[str, str] = ("beta_1", "beta_2"),
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the rate of a step along `m / sqrt(v)` with both bias corrections.

    Args:
      scalars: the numbers of this step.
      beta_1: another value for the decay of the first moment, as for `bias_correction`.
      beta_2: likewise of the second.
      names: the hyperparameters that are these decays.

    Returns:
      rate: the rate.
      root: the root of the second moment's correction.
    """
    root_2 = tf.sqrt(bias_correction(scalars, names[1], beta_2))
    correction_1 = bias_correction(scalars, names[0], beta_1)
    return scalars.learning_rate * root_2 / correction_1, root_2


def ahead(scalars: Any, alpha: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the rates of first moment and gradient where a step looks one step ahead.

    The moment is corrected as in the next step, the gradient as in this one.

    Args:
      scalars: the numbers of this step.
      alpha: the rate of the moment, corrected as in this step, where it does not look ahead.
    """
    beta, now = scalars.beta_1, bias_correction(scalars, "beta_1")
    following = (1.0 - beta) + beta * now  # 1 - beta^(t+1), without a difference
    return alpha * beta * now / following, alpha * (1.0 - beta)


def rectification(step: tf.Tensor, beta_2: float, threshold: float) -> tf.Tensor:
    """Returns the factor that makes up for the variance of a second moment of few gradients.

    In float64, as the length of the average it goes by is a small difference of large numbers.

    Args:
      step: the number of this update, 0-d, from 1.
      beta_2: decay of the second moment, in [0, 1).
      threshold: length, at least 4, up to which the variance cannot be told.

    Returns:
      0-d tensor of the dtype of `step`; 0 where the variance cannot be told.
    """
    longest = (1.0 + beta_2) / (1.0 - beta_2)
    if longest <= threshold:
        return tf.zeros_like(step)
    t = tf.cast(step, tf.float64)
    # 1 - beta_2^t; TFLite has no `expm1` of float64.
    half = tf.tanh(t * (-0.5 * math.log(beta_2)))
    gathered = 2.0 * half / (1.0 + half)
    length = longest - 2.0 * t * (1.0 - gathered) / gathered
    known = length > threshold
    length = tf.where(known, length, tf.constant(longest, tf.float64))
    parts = (length - 4.0) * (length - 2.0) / length
    whole = (longest - 4.0) * (longest - 2.0) / longest
    factor = tf.where(known, tf.sqrt(parts / whole), tf.zeros_like(parts))
    return tf.cast(factor, step.dtype)


def trust_ratio(size: tf.Tensor, norm: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns the quotient of two norms, 1 where either is 0, in the range of a dtype.

    Args:
      size: that of a variable, 0-d float64.
      norm: that of its step before the ratio.
      dtype: the dtype of the result.
    """
    ratio = tf.math.divide_no_nan(size, norm)
    ratio = tf.where(ratio > 0.0, tf.minimum(ratio, dtype.max), tf.ones_like(ratio))
    return tf.cast(ratio, dtype)


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
    return towards(before, sample, 1.0 - decay)


def towards(before: tf.Tensor, sample: tf.Tensor, share: Any) -> tf.Tensor:
    """Moves a tensor a share of the way to another."""
    return before + (sample - before) * share


def with_momentum(
    value: tf.Tensor, step: tf.Tensor, velocity: tf.Tensor, momentum: Any, nesterov: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes a step with a share of the last one.

    Args:
      value: the value before.
      step: what it is to lose.
      velocity: the last step.
      momentum: how much of that is kept.
      nesterov: whether it looks ahead along the momentum.

    Returns:
      value: the new value.
      velocity: the new last step.
    """
    velocity = momentum * velocity - step
    if nesterov:
        return value + momentum * velocity - step, velocity
    return value + velocity, velocity


def moments(
    gradient: tf.Tensor, slots: Mapping[str, tf.Tensor], beta_1: Any, beta_2: Any
) -> dict[str, tf.Tensor]:
    """Returns the new first and second moment, `momentum` and `velocity`, of a gradient."""
    return {
        "momentum": moment(slots["momentum"], gradient, beta_1),
        "velocity": moment(slots["velocity"], tf.square(gradient), beta_2),
    }


def divided_step(
    value: tf.Tensor, step: tf.Tensor, square: tf.Tensor, epsilon: Any, constant: float
) -> tf.Tensor:
    """Takes a step that is divided by the root of a second moment.

    Args:
      value: the value before.
      step: the step before the division.
      square: the second moment.
      epsilon: what is added to its root.
      constant: the hyperparameter that `epsilon` comes from; see `ratio`.
    """
    return value - ratio(step, tf.sqrt(square) + epsilon, constant)


def decayed(value: tf.Tensor, weight_decay: Any, learning_rate: tf.Tensor) -> tf.Tensor:
    """Decoupled weight decay (Loshchilov & Hutter 2019): `w - w * decay * rate`."""
    return value - _lost(value, weight_decay, learning_rate)


def _lost(value: tf.Tensor, weight_decay: Any, learning_rate: tf.Tensor) -> tf.Tensor:
    return value * weight_decay * learning_rate


def decayed_where(
    after: tf.Tensor, value: tf.Tensor, weight_decay: Any, learning_rate: tf.Tensor
) -> tf.Tensor:
    """Decoupled decay of those elements that a step moves towards 0 (Chen et al. 2025).

    Args:
      after: the value after the step.
      value: the value before it, which decays.
      weight_decay: the decay.
      learning_rate: the rate.
    """
    lost = _lost(value, weight_decay, learning_rate)
    inwards = tf.equal(tf.sign(value - after), tf.sign(value))
    return after - tf.where(inwards, lost, tf.zeros_like(lost))


def masked(after: tf.Tensor, value: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """The value after the part of a step that goes against the gradient (Liang et al. 2024).

    The other elements stay; these move farther, by one over their share of all.

    Args:
      after: the value after the whole step.
      value: the value before it.
      gradient: the gradient.
    """
    step = after - value
    mask = tf.cast(tf.sign(step) * tf.sign(gradient) < 0.0, step.dtype)
    share = loops.total(mask) / max(step.shape.num_elements() or 1, 1)
    return value + step * mask / tf.maximum(share, 1e-3)


def centralized(gradient: tf.Tensor) -> tf.Tensor:
    """A gradient without its mean over all axes but the last (Yong et al. 2020)."""
    axes = list(range(gradient.shape.rank - 1))
    return gradient - tf.reduce_mean(gradient, axes, keepdims=True)


def penalized(gradient: tf.Tensor, value: tf.Tensor, weight_decay: Any) -> tf.Tensor:
    """The gradient with that of an L2 penalty: `g + decay * w`."""
    return gradient + weight_decay * value


def root(square: tf.Tensor, epsilon: Any, inside: bool) -> tf.Tensor:
    """Returns `sqrt(square + epsilon)`, or `sqrt(square) + epsilon`."""
    return tf.sqrt(square + epsilon) if inside else tf.sqrt(square) + epsilon


def ratio(numerator: tf.Tensor, root: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Returns the quotient by a root that is at least a small constant; x / 0 is 0.

    Without that constant the root is 0 where every gradient so far was, and nothing moves.

    Args:
      numerator: floating tensor.
      root: tensor of its dtype, not negative.
      epsilon: the constant that has been added to the root.
    """
    if has_effect(epsilon, root.dtype):
        return numerator / root
    return tf.math.divide_no_nan(numerator, root)


def factors(
    row: tf.Tensor, column: tf.Tensor, square: tf.Tensor, share: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves the means of squares over rows and over columns a share of the way to new ones."""
    row = towards(row, tf.reduce_mean(square, -1), share)
    return row, towards(column, tf.reduce_mean(square, -2), share)


def divided_by_factors(tensor: tf.Tensor, row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Returns a tensor divided by the root of a factored second moment; x / 0 is 0.

    Args:
      tensor: floating, [..., rows, columns].
      row: means of squares over the last axis, [..., rows].
      column: those over the last axis but one, [..., columns].
    """
    # One factor after the other: their product can be out of the range of the dtype.
    scaled = tf.math.divide_no_nan(row, tf.reduce_mean(row, -1, keepdims=True))
    ones = tf.ones_like
    by_row, by_column = (tf.math.divide_no_nan(ones(x), tf.sqrt(x)) for x in (scaled, column))
    return tensor * by_row[..., :, None] * by_column[..., None, :]


def has_effect(epsilon: float, dtype: tf.DType) -> bool:
    """Says whether a constant is more than 0 in a dtype, and so keeps a root from 0."""
    return epsilon >= float(np.finfo(dtype.as_numpy_dtype).smallest_normal)


def operands_fit(epsilon: float, *rates: Any) -> bool:
    """Says whether a training operation gives what the formula gives for these numbers.

    It takes float32. Without `epsilon` it divides 0 by 0; a rate near 1 loses what `1 - rate`
    is in the formula.

    Args:
      epsilon: the constant that keeps its denominator from 0.
      *rates: decays, in [0, 1); what is no number passes.
    """
    numbers = [rate for rate in rates if isinstance(rate, float)]
    kept = [abs((1.0 - rounded(rate, tf.float32)) / (1.0 - rate) - 1.0) for rate in numbers]
    return has_effect(epsilon, tf.float32) and all(error < 0.01 for error in kept)


def conditioned(
    gradient: tf.Tensor, scale: tf.Tensor | None, clipvalue: float | None
) -> tf.Tensor:
    """Applies the common factor (unscaling, mean, norm clip), then the value clip.

    Args:
      gradient: floating tensor.
      scale: the factor, 0-d; or [2]: a divisor that is usually 1 and a factor, whose quotient
        may be out of the range of the dtype.
      clipvalue: limit of each element's size.
    """
    if scale is not None and scale.shape.rank == 1:
        divisor, scale = tf.unstack(scale)
        gradient = loops.divided(gradient, divisor)
    if scale is not None:
        gradient = gradient * scale
    if clipvalue is not None:
        gradient = tf.clip_by_value(gradient, -clipvalue, clipvalue)
    return gradient


def averaged(
    average: tf.Tensor, value: tf.Tensor, momentum: tf.Tensor, share: tf.Tensor
) -> tf.Tensor:
    """Moving average: `momentum * average + share * value`, where `share` is 1 - momentum.

    Both are given as the difference has no digits left in float32 where the momentum is near 1.
    """
    return momentum * average + share * value


def looked_ahead(
    slow: tf.Tensor, value: tf.Tensor, share: float, due: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Lookahead (Zhang et al. 2019): returns the new value and the new slow weight.

    Both are `slow + share * (value - slow)` where that is due; else they stay.
    """
    nearer = slow + share * (value - slow)
    return tf.where(due, nearer, value), tf.where(due, nearer, slow)


def clip_scales(found: norms.Norms, factor: Any, limit: float) -> tf.Tensor:
    """Returns what brings gradients times a common factor to norms within a limit.

    A norm that is not finite must not turn into a factor of zero, which would hide the
    overflow: the factor is NaN then.

    Args:
      found: the norms of n gradients as they came.
      factor: number or 0-d float64 tensor.
      limit: largest norm of a gradient times the common factor.

    Returns:
      float64 [n, 2]: for each gradient a divisor, which is 1 where the squares of its elements
      are in range, and the factor that follows.
    """
    clipped = limit * factor / tf.maximum(factor * found.multiples, limit / found.units)
    return tf.stack([found.units, clipped + (found.multiples - found.multiples)], 1)
