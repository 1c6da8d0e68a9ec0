"""Adan: Nesterov's momentum from differences of gradients."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.02})
class Adan(Optimizer):
    """Adan.

    ```
    d = g - last,  0 in the first update of a variable;  last <- g
    m <- m + (1 - beta_1) * (g - m)
    v <- v + (1 - beta_2) * (d - v)
    n <- n + (1 - beta_3) * ((g + beta_2 * d)^2 - n)
    u = (m / (1 - beta_1^t) + beta_2 * v / (1 - beta_2^t))
        / (sqrt(n / (1 - beta_3^t)) + epsilon)
    w <- (w - lr * u) / (1 + lr * weight_decay)    (proximal_decay)
    w <- w - lr * u                                (otherwise, after the common decay)
    ```

    The betas are what is kept of a mean, as everywhere in this package; the paper's are one
    minus them. Rates may be 5 to 10 times AdamW's. Each variable,
    and each lazy row, has its own first update.

    {{arguments}}

    State: slots `momentum`, `difference`, `last_gradient` and `velocity`, which starts at -1
    for "no gradient yet" (16 bytes a parameter; 10 with `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Adan(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.9, 2.1], dtype=float32)

    Source: Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing
    Deep Models", IEEE TPAMI 2024.
    """

    elementwise = True
    corrected = ("beta_1", "beta_2", "beta_3")
    slot_meanings = {
        "momentum": "first moment",
        "difference": "Adan: mean of differences of gradients",
        "last_gradient": "Adan: last gradient",
        "velocity": "Adan: mean of squares, or -1",
    }
    learning_rate = LearningRate(0.001)
    beta_1 = decay(0.98, "decay of the first moment")
    beta_2 = decay(0.92, "decay of the mean of differences")
    beta_3 = decay(0.99, "decay of the mean of squares")
    epsilon = Hyperparameter(1e-8, minimum=0.0, doc="small constant for numerical stability")
    proximal_decay = Hyperparameter(
        True,
        keyword_only=True,
        doc="let weights decay by a quotient after the step, as in the paper",
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Three means and the last gradient."""
        means = (Slot(name, eight_bit="signed") for name in ("momentum", "difference"))
        return (*means, Slot("last_gradient"), Slot("velocity", start=-1.0))

    @property
    def decays_in_update(self) -> bool:
        """Whether the decay is a quotient."""
        return self.proximal_decay

    def options_for(self, variable: VariableInfo) -> dict[str, bool]:
        """Whether the quotient applies to a variable."""
        return {"decays": variable.decays and self.proximal_decay}

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """Both rates with their corrections, and the correction of n."""
        one, two, three = (formulas.bias_correction(scalars, n) for n in self.corrected)
        rate = scalars.learning_rate
        return {
            "moment_rate": rate / one,
            "difference_rate": rate * scalars.beta_2 / two,
            "correction": three,
        }

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        n = slots["velocity"]
        d = tf.where(n < 0.0, tf.zeros_like(gradient), gradient - slots["last_gradient"])
        m = formulas.moment(slots["momentum"], gradient, scalars.beta_1)
        v = formulas.moment(slots["difference"], d, scalars.beta_2)
        square = tf.square(gradient + scalars.beta_2 * d)
        n = formulas.moment(tf.maximum(n, 0.0), square, scalars.beta_3)
        root = tf.sqrt(n / scalars.correction) + scalars.epsilon
        mean = scalars.moment_rate * m + scalars.difference_rate * v
        value = value - formulas.ratio(mean, root, self.epsilon)
        if scalars.decays:
            value /= 1.0 + scalars.learning_rate * scalars.weight_decay
        after = {"momentum": m, "difference": v, "last_gradient": gradient, "velocity": n}
        return value, after
