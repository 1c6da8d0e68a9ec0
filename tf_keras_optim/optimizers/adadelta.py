"""Adadelta: steps in the units of the weights themselves."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import formulas, loops
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, registered


@registered({"learning_rate": 1.0}, InKeras("Adadelta"))
class Adadelta(Optimizer):
    """Adadelta.

    ```
    a <- rho * a + (1 - rho) * g^2
    delta = -sqrt(d + epsilon) / sqrt(a + epsilon) * g
    d <- rho * d + (1 - rho) * delta^2
    w <- w + lr * delta
    ```

    The paper has no rate: `learning_rate=1.0` is its form.

    {{arguments}}

    State: slots `accumulated_grad` and `accumulated_delta_var` (8 bytes a parameter).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Adadelta(learning_rate=1000.0)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([-0.414,  3.414], dtype=float32)

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012.
    """

    elementwise = True
    slot_meanings = {
        "accumulated_grad": "Adadelta: mean of squared gradients",
        "accumulated_delta_var": "Adadelta: mean of squared steps",
    }
    counts_updates = False
    learning_rate = LearningRate(0.001)
    rho = Hyperparameter(
        0.95, minimum=0.0, below=1.0, schedulable=True, doc="decay of the averages"
    )
    epsilon = Hyperparameter(1e-7, minimum=0.0, doc="small constant for numerical stability")

    @property
    def slots(self) -> tuple[str, ...]:
        """The mean squares of gradients and of steps."""
        return ("accumulated_grad", "accumulated_delta_var")

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """What the operation takes."""
        return formulas.operands(scalars, "rho", "epsilon")

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        rho, epsilon = scalars.rho, scalars.epsilon
        a, d = slots["accumulated_grad"], slots["accumulated_delta_var"]
        a = rho * a + (1.0 - rho) * tf.square(gradient)
        root = tf.sqrt(a + epsilon)
        delta = formulas.ratio(-tf.sqrt(d + epsilon), root, epsilon) * gradient
        value = value + scalars.learning_rate * delta
        d = loops.after(value, rho) * d + (1.0 - rho) * tf.square(delta)
        return value, {"accumulated_grad": a, "accumulated_delta_var": d}

    @property
    def fusible(self) -> bool:
        """TensorFlow's operation takes 0 / 0 for NaN."""
        return formulas.operands_fit(self.epsilon, self.rho)

    def update_in_place(
        self,
        gradient: tf.Tensor,
        variable: tf.Variable,
        slots: Mapping[str, tf.Variable],
        scalars: Scalars,
    ) -> None:
        """The update in one pass."""
        tf.raw_ops.ResourceApplyAdadelta(
            var=variable.handle,
            accum=slots["accumulated_grad"].handle,
            accum_update=slots["accumulated_delta_var"].handle,
            lr=scalars.learning_rate,
            rho=scalars.operand_rho,
            epsilon=scalars.operand_epsilon,
            grad=gradient,
        )
