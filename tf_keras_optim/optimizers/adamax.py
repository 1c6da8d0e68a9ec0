"""Adamax: Adam with the infinity norm."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, registered


@registered(
    {"learning_rate": 0.01},
    InKeras("Adamax", only={"epsilon_in_norm": False}, lists={"_m": "momentum", "_u": "norm"}),
)
class Adamax(Optimizer):
    """Adamax.

    ```
    m <- m + (1 - beta_1) * (g - m)
    u <- max(beta_2 * u, |g|)
    w <- w - lr / (1 - beta_1^t) * m / (u + epsilon)
    ```

    With `epsilon_in_norm` epsilon is kept in the norm instead, as in PyTorch:
    `u <- max(beta_2 * u, |g| + epsilon)`, and the last line divides by `u`.

    {{arguments}}

    State: slots `momentum` and `norm` (8 bytes a parameter).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Adamax(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.9, 2.1], dtype=float32)

    Source: Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015,
    section 7.1.
    """

    elementwise = True
    corrected = ("beta_1",)
    slot_meanings = {"momentum": "first moment", "norm": "largest gradient, decaying"}
    learning_rate = LearningRate(0.001)
    beta_1 = Hyperparameter(
        0.9, minimum=0.0, below=1.0, schedulable=True, doc="decay of the first moment"
    )
    beta_2 = Hyperparameter(
        0.999, minimum=0.0, below=1.0, schedulable=True, doc="decay of the norm"
    )
    epsilon = Hyperparameter(1e-7, minimum=0.0, doc="small constant for numerical stability")
    epsilon_in_norm = Hyperparameter(
        False, keyword_only=True, doc="add epsilon to the gradient's norm"
    )

    @property
    def slots(self) -> tuple[str, ...]:
        """The first moment and the norm."""
        return ("momentum", "norm")

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The rate with the bias correction."""
        dtype = scalars.step.dtype
        found = {
            "alpha": _step_size(scalars, scalars.beta_1),
            "operand_none": tf.zeros([], dtype),
            "operand_alpha": _step_size(scalars, formulas.rounded(scalars.beta_1, dtype)),
        }
        return found | formulas.operands(scalars, "beta_1", "beta_2", "epsilon")

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        m = formulas.moment(slots["momentum"], gradient, scalars.beta_1)
        kept = scalars.epsilon if scalars.epsilon_in_norm else 0.0
        u = tf.maximum(scalars.beta_2 * slots["norm"], tf.abs(gradient) + kept)
        norm = u + (scalars.epsilon - kept)
        step = formulas.ratio(scalars.alpha * m, norm, scalars.epsilon)
        return value - step, {"momentum": m, "norm": u}

    @property
    def fusible(self) -> bool:
        """TensorFlow's operation adds epsilon to the norm where it divides."""
        fits = formulas.operands_fit(self.epsilon, self.beta_1)
        return not self.epsilon_in_norm and fits

    def update_in_place(
        self,
        gradient: tf.Tensor,
        variable: tf.Variable,
        slots: Mapping[str, tf.Variable],
        scalars: Scalars,
    ) -> None:
        """The update in one pass. The operation rounds beta_1; its step size fits that."""
        tf.raw_ops.ResourceApplyAdaMax(
            var=variable.handle,
            m=slots["momentum"].handle,
            v=slots["norm"].handle,
            beta1_power=scalars.operand_none,  # the correction is in the step size
            lr=scalars.operand_alpha,
            beta1=scalars.operand_beta_1,
            beta2=scalars.operand_beta_2,
            epsilon=scalars.operand_epsilon,
            grad=gradient,
        )


def _step_size(scalars: Scalars, beta_1: Any) -> tf.Tensor:
    """Returns the corrected step size."""
    return scalars.learning_rate / formulas.bias_correction(scalars, "beta_1", beta_1)
