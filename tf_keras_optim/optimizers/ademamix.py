"""AdEMAMix: a fast and a slow mean of gradients."""

import math
from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import registered


def _inverse_log(rate: tf.Tensor | float) -> tf.Tensor | float:
    """Returns one over the logarithm of a decay; 0 for a decay of 0."""
    if isinstance(rate, tf.Tensor):
        return tf.math.divide_no_nan(tf.ones_like(rate), tf.math.log(rate))
    return 1.0 / math.log(rate) if rate else 0.0


@registered({"learning_rate": 0.01, "beta_3": 0.99})
class AdEMAMix(Optimizer):
    """AdEMAMix.

    ```
    fast <- fast + (1 - beta_1) * (g - fast)
    slow <- slow + (1 - beta_3_t) * (g - slow)
    v <- v + (1 - beta_2) * (g^2 - v)
    u = (fast / (1 - beta_1^t) + alpha_t * slow) / (sqrt(v / (1 - beta_2^t)) + epsilon)
    w <- w - lr * u
    warmup_steps T:  s = min(t / T, 1),  alpha_t = alpha * s,
                     1 / log(beta_3_t) = (1 - s) / log(beta_1) + s / log(beta_3)
    otherwise:       alpha_t = alpha, beta_3_t = beta_3
    ```

    The slow mean remembers tens of thousands of gradients, so this is for long runs, and not
    for fine-tuning. Without a warm-up of about all steps of the run it often diverges early.

    {{arguments}}

    State: slots `momentum`, `slow_momentum` and `velocity` (12 bytes a parameter; 3 with
    `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = AdEMAMix(learning_rate=0.1, warmup_steps=1000)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.9, 2.1], dtype=float32)

    Source: Pagliardini, Ablin & Grangier, "The AdEMAMix Optimizer: Better, Faster, Older",
    ICLR 2025.
    """

    elementwise = True
    corrected = ("beta_1", "beta_2")
    slot_meanings = {
        "momentum": "first moment",
        "slow_momentum": "AdEMAMix: slow mean of gradients",
        "velocity": "second moment",
    }
    learning_rate = LearningRate(0.001)
    beta_1 = decay(0.9, "decay of the fast mean")
    beta_2 = decay(0.999, "decay of the second moment")
    beta_3 = decay(0.9999, "decay of the slow mean")
    alpha = Hyperparameter(5.0, minimum=0.0, schedulable=True, doc="weight of the slow mean")
    epsilon = Hyperparameter(1e-8, minimum=0.0, doc="small constant for numerical stability")
    warmup_steps = Hyperparameter(
        None,
        kind=int,
        minimum=1,
        doc="number of updates over which `alpha` and the decay of the slow mean grow, or "
        "`None`",
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The two means and the second moment."""
        means = (Slot(name, eight_bit="signed") for name in ("momentum", "slow_momentum"))
        return (*means, Slot("velocity", eight_bit="unsigned"))

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """Both rates, the correction of v, and the share of a gradient while that grows."""
        rate, weight, found = scalars.learning_rate, scalars.alpha, {}
        if scalars.warmup_steps is not None:
            s = tf.minimum(scalars.total_step / float(scalars.warmup_steps), 1.0)
            ends = _inverse_log(scalars.beta_1), _inverse_log(scalars.beta_3)
            inverse = (1.0 - s) * ends[0] + s * ends[1]
            # 1 - beta_3_t, with all its digits; an inverse of 0 is a decay of 0.
            power = tf.math.divide_no_nan(tf.ones_like(inverse), inverse)
            share = tf.where(inverse < 0.0, -tf.math.expm1(power), tf.ones_like(power))
            found, weight = {"share": share}, s * weight
        return found | {
            "fast_rate": rate / formulas.bias_correction(scalars, "beta_1"),
            "slow_rate": rate * weight,
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
        fast = formulas.moment(slots["momentum"], gradient, scalars.beta_1)
        share = 1.0 - scalars.beta_3 if scalars.warmup_steps is None else scalars.share
        slow = formulas.towards(slots["slow_momentum"], gradient, share)
        v = formulas.moment(slots["velocity"], tf.square(gradient), scalars.beta_2)
        root = tf.sqrt(v / scalars.correction) + scalars.epsilon
        mean = scalars.fast_rate * fast + scalars.slow_rate * slow
        step = formulas.ratio(mean, root, self.epsilon)
        return value - step, {"momentum": fast, "slow_momentum": slow, "velocity": v}
