"""TensorFlow's own training operations, one for each variable, without an optimizer."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tools.bench.tf_sides import in_mode, wait_for

RAW_OPS = "TensorFlow raw ops"
OPTIMIZERS = ("adam", "rmsprop", "sgd")


def raw_step(
    name: str, values: Sequence[np.ndarray], gradients: Sequence[tf.Tensor], mode: str
) -> Callable[[], None]:
    """Returns a function that applies one step to fresh variables.

    Args:
      name: out of `OPTIMIZERS`.
      values: what the variables start from.
      gradients: one for each of them.
      mode: "eager", "function" or "xla".
    """
    variables = [tf.Variable(value) for value in values]
    slots = {"adam": 2, "rmsprop": 2, "sgd": 0}[name]
    kept = [[tf.Variable(tf.zeros_like(v)) for v in variables] for _ in range(slots)]
    powers = [tf.Variable(beta) for beta in (0.9, 0.999)]

    def adam(index: int, gradient: tf.Tensor, read: Sequence[tf.Tensor]) -> None:
        tf.raw_ops.ResourceApplyAdam(
            var=variables[index].handle,
            m=kept[0][index].handle,
            v=kept[1][index].handle,
            beta1_power=read[0],
            beta2_power=read[1],
            lr=1e-3,
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-7,
            grad=gradient,
        )

    def rmsprop(index: int, gradient: tf.Tensor, read: Sequence[tf.Tensor]) -> None:
        tf.raw_ops.ResourceApplyRMSProp(
            var=variables[index].handle,
            ms=kept[0][index].handle,
            mom=kept[1][index].handle,
            lr=1e-3,
            rho=0.9,
            momentum=0.0,
            epsilon=1e-7,
            grad=gradient,
        )

    def sgd(index: int, gradient: tf.Tensor, read: Sequence[tf.Tensor]) -> None:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=variables[index].handle, alpha=1e-3, delta=gradient
        )

    update = {"adam": adam, "rmsprop": rmsprop, "sgd": sgd}[name]

    def apply(given: Sequence[tf.Tensor]) -> None:
        read = [power.read_value() for power in powers]
        for index, gradient in enumerate(given):
            update(index, gradient, read)
        if name == "adam":
            powers[0].assign(0.9 * read[0])
            powers[1].assign(0.999 * read[1])

    call = in_mode(apply, mode)

    def step() -> None:
        call(gradients)
        wait_for(variables[-1])

    return step
