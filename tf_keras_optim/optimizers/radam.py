"""RAdam: Adam with a rectified step while the second moment is young."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.01})
class RAdam(Optimizer):
    """Rectified Adam.

    ```
    m <- m + (1 - beta_1) * (g - m)
    v <- v + (1 - beta_2) * (g^2 - v)
    m_hat = m / (1 - beta_1^t)
    rho = rho_inf - 2 * t * beta_2^t / (1 - beta_2^t),  rho_inf = 2 / (1 - beta_2) - 1
    rho > threshold:  r = sqrt((rho - 4) * (rho - 2) * rho_inf
                               / ((rho_inf - 4) * (rho_inf - 2) * rho))
                      w <- w - lr * r * m_hat / (sqrt(v / (1 - beta_2^t)) + epsilon)
    otherwise:        w <- w - lr * m_hat
    ```

    The variance of the adaptive step is large as long as `v` has seen few gradients; `r` makes
    up for it, and takes the place of a warm-up. With the default `beta_2` and `threshold` the
    first five steps are those of the momentum alone.

    {{arguments}}

    State: slots `momentum` and `velocity` (8 bytes a parameter; 2 with
    `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = RAdam(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([2.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.8, 2.1], dtype=float32)

    Source: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond",
    ICLR 2020.
    """

    elementwise = True
    corrected = ("beta_1",)
    slot_meanings = {"momentum": "first moment", "velocity": "second moment"}
    learning_rate = LearningRate(0.001)
    beta_1 = decay(0.9, "decay of the first moment")
    beta_2 = Hyperparameter(0.999, minimum=0.0, below=1.0, doc="decay of the second moment")
    epsilon = Hyperparameter(1e-7, minimum=0.0, doc="small constant for numerical stability")
    threshold = Hyperparameter(
        5.0,
        minimum=4.0,
        keyword_only=True,
        doc="length of the average in `v` (rho) that a rectified step needs more of; 5 as in "
        "PyTorch, at least 4, as in the paper.",
    )
    epsilon_after_correction = Hyperparameter(
        True,
        keyword_only=True,
        doc="add epsilon after the bias correction of `v`, or else before it, as PyTorch",
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The two moments."""
        return (
            Slot("momentum", eight_bit="signed"),
            Slot("velocity", eight_bit="unsigned"),
        )

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The rate of the momentum, the factor of a rectified step, 0 for none, and epsilon."""
        root_2 = tf.sqrt(formulas.one_minus_power(scalars.beta_2, scalars.step))
        factor = formulas.rectification(scalars.step, scalars.beta_2, scalars.threshold)
        found = {
            "alpha": scalars.learning_rate / formulas.bias_correction(scalars, "beta_1"),
            "rectification": factor * root_2,
        }
        if scalars.epsilon_after_correction:
            found["epsilon"] = scalars.epsilon * root_2
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
        v = formulas.moment(slots["velocity"], tf.square(gradient), scalars.beta_2)
        step = scalars.alpha * m
        root = tf.sqrt(v) + scalars.epsilon
        rectified = formulas.ratio(scalars.rectification * step, root, self.epsilon)
        step = tf.where(scalars.rectification > 0.0, rectified, step)
        return value - step, {"momentum": m, "velocity": v}
