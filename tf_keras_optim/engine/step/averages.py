"""How much the weights after an update count in their average."""

from typing import Protocol

import tensorflow as tf


class AveragingOptions(Protocol):
    """The options of an optimizer that its averages are made by."""

    averaging: str
    averaging_start: int
    averaging_period: int
    ema_momentum: float
    ema_warmup: bool


def shares(options: AveragingOptions, updates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what average and weights count in the average after the next update.

    Until the first weights enter it, and when they do, the average is the weights.

    Args:
      options: the optimizer's options.
      updates: the number of updates so far.

    Returns:
      momentum: the factor on the average, 0-d float64.
      share: the factor on the weights, which is one minus that.
    """
    held = _held(options, updates)
    count = tf.cast(held, tf.float64)
    momentum = tf.constant(options.ema_momentum, tf.float64)
    share = tf.constant(1.0 - options.ema_momentum, tf.float64)
    if options.averaging == "equal":
        momentum, share = count / (count + 1.0), 1.0 / (count + 1.0)
    elif options.ema_warmup:
        early = (1.0 + count) / (10.0 + count)
        share = tf.where(early < momentum, 9.0 / (10.0 + count), share)
        momentum = tf.minimum(momentum, early)
    if options.averaging_start or options.averaging_period > 1:
        enters = _held(options, updates + 1) > held
        momentum = tf.where(enters, momentum, tf.ones_like(momentum))
        share = tf.where(enters, share, tf.zeros_like(share))
    is_first = tf.equal(held, 0)
    momentum = tf.where(is_first, tf.zeros_like(momentum), momentum)
    return momentum, tf.where(is_first, tf.ones_like(share), share)


def _held(options: AveragingOptions, updates: tf.Tensor) -> tf.Tensor:
    """Returns how many weights an average holds after a number of updates."""
    start, period = options.averaging_start, options.averaging_period
    if not start and period == 1:
        return updates
    first = start or period
    return tf.where(updates < first, tf.zeros_like(updates), (updates - first) // period + 1)
