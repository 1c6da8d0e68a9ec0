"""Gradients of losses, for optimizers that are given a loss."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def gradients_of(
    loss: Any,
    var_list: Any,
    tape: Any,
    scale: Callable[[Any], Any],
    unwrap: Callable[[Any], tf.Variable],
    title: str,
) -> list[tuple[Any, Any]]:
    """Returns pairs of the gradient of a scaled loss and the variable.

    Args:
      loss: callable without arguments, or a tensor computed under `tape`.
      var_list: the variables, or a callable that returns them.
      tape: the `tf.GradientTape`, or `None`.
      scale: scales a loss.
      unwrap: returns the TensorFlow variable behind a variable.
      title: the optimizer, in messages.

    Raises:
      ValueError: `loss` is a tensor and `tape` is missing.
    """
    if not callable(loss) and tape is None:
        raise ValueError(
            f"{title}: a loss that is a tensor needs the `tape` it was computed "
            "under. Pass `tape=`, or pass a callable that computes the loss."
        )
    tape = tape or tf.GradientTape()
    with tape:
        if callable(loss):
            if not callable(var_list):
                tape.watch([unwrap(variable) for variable in var_list])
            loss = loss()
        scaled = scale(loss)
    variables = list(var_list() if callable(var_list) else var_list)
    gradients = tape.gradient(scaled, [unwrap(variable) for variable in variables])
    return list(zip(gradients, variables))
