"""Adagrad: steps shrink where gradients have been large."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, registered


@registered({"learning_rate": 0.1}, InKeras("Adagrad", only={"epsilon_inside_root": True}))
class Adagrad(Optimizer):
    """Adagrad.

    ```
    a <- a + g^2
    w <- w - lr * g / sqrt(a + epsilon)
    ```

    `epsilon` stands inside the root, as in Keras; with `epsilon_inside_root=False` it is
    added to the root, as in PyTorch.

    {{arguments}}

    State: slot `accumulator` (4 bytes a parameter).

    Sparse gradients: duplicate rows are summed; rows without a gradient stay as
    they are, as with the dense gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Adagrad(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.905, 2.095], dtype=float32)

    Source: Duchi, Hazan & Singer, "Adaptive Subgradient Methods for Online Learning
    and Stochastic Optimization", JMLR 2011.
    """

    elementwise = True
    slot_meanings = {"accumulator": "Adagrad: sum of squared gradients"}
    counts_updates = False
    learning_rate = LearningRate(0.001)
    initial_accumulator_value = Hyperparameter(
        0.1, minimum=0.0, doc="what every accumulator starts from"
    )
    epsilon = Hyperparameter(1e-7, minimum=0.0, doc="small constant for numerical stability")
    epsilon_inside_root = Hyperparameter(
        True, keyword_only=True, doc="whether epsilon stands inside the root"
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The sum of squares."""
        return (Slot("accumulator", initial_value=self.initial_accumulator_value),)

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        a = slots["accumulator"] + tf.square(gradient)
        root = formulas.root(a, scalars.epsilon, scalars.epsilon_inside_root)
        least = max(self.epsilon, self.initial_accumulator_value)
        step = formulas.ratio(scalars.learning_rate * gradient, root, least)
        return value - step, {"accumulator": a}
