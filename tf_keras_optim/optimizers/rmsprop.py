"""RMSprop: steps divided by a running root mean square."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, registered


@registered(
    {"learning_rate": 0.01, "momentum": 0.5},
    InKeras("RMSprop", only={"epsilon_inside_root": True}),
)
class RMSprop(Optimizer):
    """RMSprop, optionally centered and with momentum.

    ```
    v <- rho * v + (1 - rho) * g^2
    denominator = sqrt(v + epsilon)
    centered:  a <- rho * a + (1 - rho) * g
               denominator = sqrt(max(v - a^2, 0) + epsilon)
    momentum = 0:  w <- w - lr * g / denominator
    otherwise:     m <- momentum * m + lr * g / denominator
                   w <- w - m
    ```

    `epsilon` stands inside the root, as in Keras; with `epsilon_inside_root=False` it is
    added to the root, as in PyTorch. The maximum guards against a negative radicand, which
    rounding can leave.

    {{arguments}}

    State: slot `velocity` (4 bytes a parameter); with momentum also `momentum`,
    centered also `average_gradient` (4 bytes each).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = RMSprop(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.684, 2.316], dtype=float32)

    Source: Hinton, Srivastava & Swersky, "Neural Networks for Machine Learning",
    lecture 6e, 2012; centered: Graves, "Generating Sequences With Recurrent Neural
    Networks", 2013.
    """

    elementwise = True
    slot_meanings = {
        "velocity": "RMSprop: mean of squared gradients",
        "momentum": "RMSprop: last step",
        "average_gradient": "RMSprop: mean of gradients",
    }
    counts_updates = False
    learning_rate = LearningRate(0.001)
    rho = Hyperparameter(
        0.9, minimum=0.0, below=1.0, schedulable=True, doc="decay of the averages"
    )
    momentum = Hyperparameter(
        0.0, minimum=0.0, maximum=1.0, schedulable=True, doc="how much of the last step is kept"
    )
    epsilon = Hyperparameter(1e-7, minimum=0.0, doc="small constant for numerical stability")
    centered = Hyperparameter(
        False, doc="divide by the deviation of the gradient instead of its root mean square"
    )
    epsilon_inside_root = Hyperparameter(
        True, keyword_only=True, doc="whether epsilon stands inside the root"
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The mean square; the momentum and the mean where they are asked for."""
        slots = [Slot("velocity")]
        if self.momentum:
            slots.append(Slot("momentum", group=1))
        if self.centered:
            slots.append(Slot("average_gradient", group=2))
        return tuple(slots)

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """What the operation takes."""
        return formulas.operands(scalars, "rho", "momentum", "epsilon")

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        v = scalars.rho * slots["velocity"] + (1.0 - scalars.rho) * tf.square(gradient)
        after, radicand = {"velocity": v}, v
        if scalars.centered:
            mean = scalars.rho * slots["average_gradient"] + (1.0 - scalars.rho) * gradient
            after["average_gradient"] = mean
            radicand = tf.maximum(v - tf.square(mean), 0.0)
        root = formulas.root(radicand, scalars.epsilon, scalars.epsilon_inside_root)
        step = formulas.ratio(scalars.learning_rate * gradient, root, self.epsilon)
        if "momentum" in slots:
            step = after["momentum"] = scalars.momentum * slots["momentum"] + step
        return value - step, after

    @property
    def fusible(self) -> bool:
        """TensorFlow's operation always has a momentum, and its radicand no guard."""
        fits = formulas.operands_fit(self.epsilon, self.rho)
        return bool(self.momentum) and not self.centered and self.epsilon_inside_root and fits

    def update_in_place(
        self,
        gradient: tf.Tensor,
        variable: tf.Variable,
        slots: Mapping[str, tf.Variable],
        scalars: Scalars,
    ) -> None:
        """The update in one pass."""
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=slots["velocity"].handle,
            mom=slots["momentum"].handle,
            lr=scalars.learning_rate,
            rho=scalars.operand_rho,
            momentum=scalars.operand_momentum,
            epsilon=scalars.operand_epsilon,
            grad=gradient,
        )
