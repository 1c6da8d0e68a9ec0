"""AdaBelief: steps by how far gradients are from what was expected."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import registered

_THRESHOLD = 5.0  # as RAdam's


@registered({"learning_rate": 0.01})
class AdaBelief(Optimizer):
    """AdaBelief.

    ```
    m <- m + (1 - beta_1) * (g - m)
    s <- s + (1 - beta_2) * ((g - m)^2 - s) + epsilon
    w <- w - lr * m / (1 - beta_1^t) / (sqrt(s / (1 - beta_2^t)) + epsilon)
    rectify: as RAdam, with s in the place of v and a threshold of 5
    ```

    {{arguments}}

    State: slots `momentum` and `velocity`, which is `s` (8 bytes a parameter; 5 with
    `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = AdaBelief(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.889, 2.111], dtype=float32)

    Source: Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in
    Observed Gradients", NeurIPS 2020.
    """

    elementwise = True
    corrected = ("beta_1", "beta_2")
    slot_meanings = {
        "momentum": "first moment",
        "velocity": "AdaBelief: variance of gradients around the first moment",
    }
    learning_rate = LearningRate(0.001)
    beta_1 = decay(0.9, "decay of the first moment")
    beta_2 = Hyperparameter(0.999, minimum=0.0, below=1.0, doc="decay of the variance")
    epsilon = Hyperparameter(
        1e-16, minimum=0.0, doc="small constant, in every step added to the variance too"
    )
    rectify = Hyperparameter(False, keyword_only=True, doc="rectify young steps, as RAdam")

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The first moment and the variance."""
        # Differences of nearly equal numbers, of very different sizes: no 8 bits for them.
        return (Slot("momentum", eight_bit="signed"), Slot("velocity"))

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The corrected rate, the other correction, and the factor of a rectified step."""
        found = {
            "alpha": scalars.learning_rate / formulas.bias_correction(scalars, "beta_1"),
            "correction": formulas.bias_correction(scalars, "beta_2"),
        }
        if scalars.rectify:
            factor = formulas.rectification(scalars.step, scalars.beta_2, _THRESHOLD)
            found["rectification"] = factor
        return found

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        m = formulas.moment(slots["momentum"], gradient, scalars.beta_1)
        apart = tf.square(gradient - m)
        s = formulas.moment(slots["velocity"], apart, scalars.beta_2) + scalars.epsilon
        root = tf.sqrt(s / scalars.correction) + scalars.epsilon
        step = scalars.alpha * m
        adapted = formulas.ratio(step, root, self.epsilon)
        if scalars.rectify:
            factor = scalars.rectification
            adapted = tf.where(factor > 0.0, factor * adapted, step)
        return value - adapted, {"momentum": m, "velocity": s}
