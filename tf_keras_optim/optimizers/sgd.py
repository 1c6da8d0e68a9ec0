"""Stochastic gradient descent, with momentum."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, Listed, registered


def _listed_by_keras(optimizer: Any, shape: tuple[int, ...], generation: int) -> Listed | None:
    """Without momentum tf_keras keeps one that it does not use."""
    return None if optimizer.momentum or generation == 3 else [(None, shape)]


@registered(
    {"learning_rate": 0.05, "momentum": 0.9},
    InKeras("SGD", listed=_listed_by_keras, may_be_empty=True, lists={"momentums": "momentum"}),
)
class SGD(Optimizer):
    """Gradient descent, optionally with (Nesterov) momentum.

    ```
    momentum = 0:  w <- w - lr * g
    otherwise:     v <- momentum * v - lr * g
                   w <- w + v                        (plain)
                   w <- w + momentum * v - lr * g    (nesterov)
    ```

    {{arguments}}

    State: none without momentum, else one slot `momentum` (4 bytes a parameter; 1
    with `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = SGD(learning_rate=0.1, momentum=0.9)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, 1.0]), w)])
      >>> w.numpy()
      array([0.9, 1.9], dtype=float32)

    Source: Sutskever et al., "On the importance of initialization and momentum in
    deep learning", ICML 2013.
    """

    elementwise = True
    slot_meanings = {"momentum": "SGD: last step"}
    counts_updates = False
    learning_rate = LearningRate(0.01)
    momentum = Hyperparameter(
        0.0, minimum=0.0, maximum=1.0, schedulable=True, doc="how much of the last step is kept"
    )
    nesterov = Hyperparameter(
        False, doc="look ahead along the momentum. Without momentum it has no effect."
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """One slot, `momentum`, unless the momentum is 0."""
        return (Slot("momentum", eight_bit="signed"),) if self.momentum else ()

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The momentum as the operation takes it."""
        return formulas.operands(scalars, "momentum")

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        step = scalars.learning_rate * gradient
        if not slots:
            return value - step, {}
        value, velocity = formulas.with_momentum(
            value, step, slots["momentum"], scalars.momentum, scalars.nesterov
        )
        return value, {"momentum": velocity}

    def update_in_place(
        self,
        gradient: tf.Tensor,
        variable: tf.Variable,
        slots: Mapping[str, tf.Variable],
        scalars: Scalars,
    ) -> None:
        """The update in one pass."""
        rate = scalars.learning_rate
        if not slots:
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=rate, delta=gradient
            )
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=slots["momentum"].handle,
            lr=rate,
            grad=gradient,
            momentum=scalars.operand_momentum,
            use_nesterov=scalars.nesterov,
        )
