"""Nadam: Adam with Nesterov's momentum and a momentum schedule."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, registered

_MOST_STEPS = 1_000_000  # that are counted one by one; later all factors are the same


def _product_in_keras(arguments: Mapping[str, Any], steps: int) -> np.float32:
    """The product after some updates, as tf_keras, which does not save it, multiplies it."""
    product, beta = np.float32(1.0), np.float32(arguments.get("beta_1", 0.9))
    for step in range(1, min(steps, _MOST_STEPS) + 1):
        product *= beta * np.float32(1.0 - 0.5 * 0.96**step)
        if product == 0.0:
            break
    return product * np.float32(float(beta) ** max(steps - _MOST_STEPS, 0))


@registered(
    {"learning_rate": 0.01},
    InKeras(
        "Nadam",
        only={"momentum_decay": 1.0},
        scalars={"u_product": "_u_product"},
        unsaved={"u_product": _product_in_keras},
    ),
)
class Nadam(Optimizer):
    """Nadam.

    ```
    mu_t = beta_1 * (1 - 0.96^(momentum_decay * t) / 2)
    P <- P * mu_t                               product of the mu so far
    m <- m + (1 - beta_1) * (g - m)
    v <- v + (1 - beta_2) * (g^2 - v)
    m_hat = mu_{t+1} * m / (1 - P * mu_{t+1}) + (1 - mu_t) * g / (1 - P)
    v_hat = v / (1 - beta_2^t)
    w <- w - lr * m_hat / (sqrt(v_hat) + epsilon)
    ```

    The product is taken once per update, in float32, and saved with the state.
    (Keras 2 multiplies it once per variable inside a `tf.function`.)

    {{arguments}}

    State: slots `momentum` and `velocity` (8 bytes a parameter), and one number,
    `u_product`.

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Nadam(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.894, 2.106], dtype=float32)

    Source: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016.
    """

    elementwise = True
    corrected = ("beta_2",)
    slot_meanings = {"momentum": "first moment", "velocity": "second moment"}
    learning_rate = LearningRate(0.001)
    beta_1 = Hyperparameter(
        0.9, minimum=0.0, below=1.0, schedulable=True, doc="decay of the first moment"
    )
    beta_2 = Hyperparameter(
        0.999, minimum=0.0, below=1.0, schedulable=True, doc="decay of the second moment"
    )
    epsilon = Hyperparameter(1e-7, minimum=0.0, doc="small constant for numerical stability")
    momentum_decay = Hyperparameter(
        1.0,
        minimum=0.0,
        keyword_only=True,
        doc="how fast mu grows to beta_1, at least 0; 1 as in Keras. The paper and PyTorch "
        "have 0.004.",
    )

    @property
    def slots(self) -> tuple[str, ...]:
        """The two moments."""
        return ("momentum", "velocity")

    @property
    def step_slots(self) -> tuple[Slot, ...]:
        """The product of the momentum schedule so far."""
        return (Slot("u_product", initial_value=1.0),)

    @property
    def _u_product(self) -> Any:
        """The variable with that product, by the name that it has in Keras."""
        return self.tko.variables.form_of(self.tko.store.step_slots["u_product"])

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The product, the weights of both momentum terms, and the correction of v."""
        t, base = scalars.step, 0.96**scalars.momentum_decay
        mu, mu_next = (scalars.beta_1 * (1.0 - 0.5 * base**s) for s in (t, t + 1.0))
        product = scalars.u_product * mu
        return {
            "u_product": product,
            "moment_weight": mu_next / (1.0 - product * mu_next),
            "gradient_weight": (1.0 - mu) / (1.0 - product),
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
        v = formulas.moment(slots["velocity"], tf.square(gradient), scalars.beta_2)
        m_hat = scalars.moment_weight * m + scalars.gradient_weight * gradient
        root = tf.sqrt(v / scalars.correction) + scalars.epsilon
        step = formulas.ratio(scalars.learning_rate * m_hat, root, self.epsilon)
        return value - step, {"momentum": m, "velocity": v}
