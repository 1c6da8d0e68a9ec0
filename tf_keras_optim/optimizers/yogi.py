"""Yogi: a second moment that changes by no more than the new square."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.02})
class Yogi(Optimizer):
    """Yogi.

    ```
    m <- m + (1 - beta_1) * (g - m)
    v <- v - (1 - beta_2) * sign(v - g^2) * g^2
    w <- w - lr * m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
    ```

    Adam's second moment falls quickly where gradients become small; this one falls no faster
    than it rises.

    {{arguments}}

    State: slots `momentum` and `velocity`, which starts at `initial_accumulator_value`
    (8 bytes a parameter; 5 with `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Yogi(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.9, 2.1], dtype=float32)

    Source: Zaheer et al., "Adaptive Methods for Nonconvex Optimization", NeurIPS 2018; the
    bias corrections are those of TensorFlow Addons and optax.
    """

    elementwise = True
    corrected = ("beta_1", "beta_2")
    slot_meanings = {"momentum": "first moment", "velocity": "Yogi: second moment"}
    learning_rate = LearningRate(0.01)
    beta_1 = decay(0.9, "decay of the first moment")
    beta_2 = decay(0.999, "decay of the second moment")
    epsilon = Hyperparameter(1e-3, minimum=0.0, doc="small constant for numerical stability")
    initial_accumulator_value = Hyperparameter(
        1e-6, minimum=0.0, doc="what the second moment starts from"
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The two moments."""
        start = self.initial_accumulator_value
        return (Slot("momentum", eight_bit="signed"), Slot("velocity", start=start))

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The rate with the first moment's correction, and the correction of the second."""
        return {
            "alpha": scalars.learning_rate / formulas.bias_correction(scalars, "beta_1"),
            "correction": formulas.bias_correction(scalars, "beta_2"),
        }

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        m = formulas.moment(slots["momentum"], gradient, scalars.beta_1)
        v, square = slots["velocity"], tf.square(gradient)
        v -= (1.0 - scalars.beta_2) * tf.sign(v - square) * square
        root = tf.sqrt(v / scalars.correction) + scalars.epsilon
        step = formulas.ratio(scalars.alpha * m, root, self.epsilon)
        return value - step, {"momentum": m, "velocity": v}
