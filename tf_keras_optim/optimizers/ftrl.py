"""FTRL: follow the regularized leader, with exact zeros."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import loops
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, registered


@registered({"learning_rate": 0.1, "l1_regularization_strength": 0.01}, InKeras("Ftrl"))
class Ftrl(Optimizer):
    """FTRL-proximal, optionally with shrinkage.

    ```
    p = learning_rate_power
    l2' = l2 + beta / (2 * lr)
    g_s = g + 2 * l2_shrinkage * w
    n' = n + g^2
    z <- z + g_s - (n'^-p - n^-p) / lr * w
    w <- (clip(z, -l1, l1) - z) / (n'^-p / lr + 2 * l2')
    n <- n'
    ```

    With `l1_regularization_strength` weights become exactly zero. A weight is a
    function of `z` and `n` alone: the value it started from counts only in so far
    as `z` has taken it up. At a rate of 0 nothing moves, `n` and `z` included; where `n'`
    and `l2'` are 0, as no gradient has come yet, the weight is 0.

    {{arguments}}

    State: slots `accumulator` and `linear` (8 bytes a parameter).

    Sparse gradients: duplicate rows are summed; every row is computed anew, as with
    the dense gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Ftrl(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.603, 1.492], dtype=float32)

    Source: McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013.
    """

    elementwise = True
    slot_meanings = {
        "accumulator": "Ftrl: sum of squared gradients",
        "linear": "Ftrl: sum of gradients, less what the weight has taken up",
    }
    counts_updates = False
    learning_rate = LearningRate(0.001)
    learning_rate_power = Hyperparameter(
        -0.5, maximum=0.0, doc="power of the accumulator, at most 0; 0 keeps the rate."
    )
    initial_accumulator_value = Hyperparameter(
        0.1, minimum=0.0, doc="what every accumulator starts from"
    )
    l1_regularization_strength = Hyperparameter(
        0.0, minimum=0.0, doc="strength of the l1 penalty"
    )
    l2_regularization_strength = Hyperparameter(
        0.0, minimum=0.0, doc="strength of the l2 penalty"
    )
    l2_shrinkage_regularization_strength = Hyperparameter(
        0.0,
        minimum=0.0,
        doc="strength of an l2 penalty on the size of the weights (and not on the leader)",
    )
    beta = Hyperparameter(0.0, minimum=0.0, doc="the beta of the paper")

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The sum of squares and the linear term."""
        start = self.initial_accumulator_value
        return (Slot("accumulator", initial_value=start), Slot("linear"))

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        rate, power = scalars.learning_rate, -scalars.learning_rate_power
        l1 = scalars.l1_regularization_strength
        n, z = slots["accumulator"], slots["linear"]
        square = tf.square(gradient)
        sigma = (_power(n + square, power) - _power(n, power)) * scalars.inverse_rate
        shrinkage = 2.0 * scalars.l2_shrinkage_regularization_strength
        shrunk = gradient + shrinkage * value if shrinkage else gradient
        z = z + scalars.moves * shrunk - sigma * value
        total = n + loops.after(z, scalars.moves) * square
        curvature = _power(total, power) + scalars.ridge
        new = self._quotient(rate * (tf.clip_by_value(z, -l1, l1) - z), curvature)
        return tf.where(rate > 0.0, new, value), {"accumulator": total, "linear": z}

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """What depends on the rate alone; at a rate of 0 nothing moves, the slots included."""
        rate = scalars.learning_rate
        return {
            "inverse_rate": tf.math.divide_no_nan(tf.ones_like(rate), rate),
            "moves": tf.cast(rate > 0.0, rate.dtype),
            "ridge": 2.0 * scalars.l2_regularization_strength * rate + scalars.beta,
        }

    def _quotient(self, x: tf.Tensor, curvature: tf.Tensor) -> tf.Tensor:
        """Returns a quotient that is 0 where the curvature is, since `z` is 0 there."""
        start, l2 = self.initial_accumulator_value, self.l2_regularization_strength
        if start or l2 or self.beta:
            return x / curvature
        return tf.math.divide_no_nan(x, curvature)


def _power(x: tf.Tensor, power: float) -> tf.Tensor:
    """Returns `x ** power`; a root costs a quarter of a power."""
    return tf.sqrt(x) if power == 0.5 else tf.pow(x, power)
