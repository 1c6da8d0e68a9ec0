"""TensorFlow's own training operations, one for each variable, without an optimizer."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tools.bench.tf_sides import in_mode, wait_for

RAW_OPS = "TensorFlow raw ops"


def _adam(
    weight: tf.Variable,
    slots: Sequence[tf.Variable],
    powers: Sequence[tf.Tensor],
    gradient: tf.Tensor,
) -> None:
    tf.raw_ops.ResourceApplyAdam(
        var=weight.handle,
        m=slots[0].handle,
        v=slots[1].handle,
        beta1_power=powers[0],
        beta2_power=powers[1],
        lr=1e-3,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-7,
        grad=gradient,
    )


def _rmsprop(
    weight: tf.Variable,
    slots: Sequence[tf.Variable],
    powers: Sequence[tf.Tensor],
    gradient: tf.Tensor,
) -> None:
    tf.raw_ops.ResourceApplyRMSProp(
        var=weight.handle,
        ms=slots[0].handle,
        mom=slots[1].handle,
        lr=1e-3,
        rho=0.9,
        momentum=0.0,
        epsilon=1e-7,
        grad=gradient,
    )


def _sgd(
    weight: tf.Variable,
    slots: Sequence[tf.Variable],
    powers: Sequence[tf.Tensor],
    gradient: tf.Tensor,
) -> None:
    tf.raw_ops.ResourceApplyGradientDescent(var=weight.handle, alpha=1e-3, delta=gradient)


# The operation and its number of slots; that of RMSprop has a momentum in any case.
_OPERATIONS = {"adam": (_adam, 2), "rmsprop": (_rmsprop, 2), "sgd": (_sgd, 0)}
OPTIMIZERS = tuple(_OPERATIONS)


def raw_step(
    name: str, variables: Sequence[tf.Variable], gradients: Sequence[tf.Tensor], mode: str
) -> Callable[[], None]:
    """Returns a function that applies one step and returns when it has ended.

    Args:
      name: out of `OPTIMIZERS`.
      variables: what it updates.
      gradients: one for each of them.
      mode: "eager", "function" or "xla".
    """
    operation, number = _OPERATIONS[name]
    slots = [[tf.Variable(tf.zeros_like(v)) for _ in range(number)] for v in variables]
    betas = (0.9, 0.999)
    powers = [tf.Variable(beta) for beta in betas]

    def apply(given: Sequence[tf.Tensor]) -> None:
        read = [power.read_value() for power in powers]
        for weight, kept, gradient in zip(variables, slots, given):
            operation(weight, kept, read, gradient)
        if name == "adam":
            for power, value, beta in zip(powers, read, betas):
                power.assign(beta * value)

    call = in_mode(apply, mode)

    def step() -> None:
        call(gradients)
        wait_for(variables[-1])

    return step
