"""Lion: the sign of an interpolated momentum."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import loops
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, registered


@registered({"learning_rate": 0.01}, InKeras("Lion", lists={"momentums": "momentum"}))
class Lion(Optimizer):
    """Lion.

    ```
    w <- w - lr * sign(beta_1 * m + (1 - beta_1) * g)
    m <- beta_2 * m + (1 - beta_2) * g
    ```

    Every weight moves by the same amount, so the rate is usually 3 to 10 times
    smaller, and weight decay as much larger, than Adam's. The default rate is
    Keras 3's; that of Keras 2 is 1e-4.

    {{arguments}}

    State: slot `momentum` (4 bytes a parameter; 1 with `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Lion(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.9, 2.1], dtype=float32)

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms",
    NeurIPS 2023.
    """

    elementwise = True
    slot_meanings = {"momentum": "Lion: mean of gradients"}
    counts_updates = False
    learning_rate = LearningRate(0.001)
    beta_1 = Hyperparameter(
        0.9,
        minimum=0.0,
        below=1.0,
        schedulable=True,
        doc="share of the momentum in the direction of a step",
    )
    beta_2 = Hyperparameter(
        0.99, minimum=0.0, below=1.0, schedulable=True, doc="decay of the momentum"
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The momentum."""
        return (Slot("momentum", eight_bit="signed"),)

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        m, b1, b2 = slots["momentum"], scalars.beta_1, scalars.beta_2
        direction = tf.sign(b1 * m + (1.0 - b1) * gradient)
        value = value - scalars.learning_rate * direction
        momentum = loops.after(value, b2) * m + (1.0 - b2) * gradient
        return value, {"momentum": momentum}
