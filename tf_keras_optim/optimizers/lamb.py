"""LAMB: Adam's step, scaled to the size of each variable."""

import re
from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import formulas, norms
from tf_keras_optim.engine.patterns import Patterns
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, registered


@registered(
    {"learning_rate": 0.05, "weight_decay": 0.1},
    InKeras("Lamb", only={"decay_in_trust_ratio": False, "exclude_from_layer_adaptation": []}),
)
class Lamb(Optimizer):
    """LAMB.

    ```
    m <- m + (1 - beta_1) * (g - m)
    v <- v + (1 - beta_2) * (g^2 - v)
    u = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
    ratio = |w| / |u|, or 1 if either is 0
    w <- w - lr * ratio * u
    ```

    Weight decay acts before the update and outside the trust ratio, as in Keras; with
    `decay_in_trust_ratio` it is added to `u` instead, as in the paper:
    `u <- u + weight_decay * w`.

    {{arguments}}

    State: slots `momentum` and `velocity` (8 bytes a parameter; 2 with
    `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Lamb(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.842, 2.158], dtype=float32)

    Source: You et al., "Large Batch Optimization for Deep Learning: Training BERT in
    76 minutes", ICLR 2020.
    """

    corrected = ("beta_1", "beta_2")
    slot_meanings = {"momentum": "first moment", "velocity": "second moment"}
    learning_rate = LearningRate(0.001)
    beta_1 = Hyperparameter(
        0.9, minimum=0.0, below=1.0, schedulable=True, doc="decay of the first moment"
    )
    beta_2 = Hyperparameter(
        0.999, minimum=0.0, below=1.0, schedulable=True, doc="decay of the second moment"
    )
    epsilon = Hyperparameter(1e-7, minimum=0.0, doc="small constant for numerical stability")
    decay_in_trust_ratio = Hyperparameter(
        False,
        keyword_only=True,
        doc="add the decay to the direction, so that the ratio scales it too, as the paper "
        "has it",
    )
    exclude_from_layer_adaptation = Patterns(
        doc="regular expressions, searched in a variable's path; those variables take the "
        "ratio 1 (biases and norms, often)"
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The two moments."""
        return (
            Slot("momentum", eight_bit="signed"),
            Slot("velocity", eight_bit="unsigned"),
        )

    @property
    def decays_in_update(self) -> bool:
        """Whether the decay is inside the trust ratio."""
        return self.decay_in_trust_ratio

    def options_for(self, variable: VariableInfo) -> dict[str, bool]:
        """Whether the ratio and the decay inside it apply to a variable."""
        patterns = self.exclude_from_layer_adaptation
        return {
            "adapts": not any(re.search(pattern, variable.path) for pattern in patterns),
            "decays": variable.decays and self.decay_in_trust_ratio,
        }

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The two bias corrections."""
        return {
            "correction_1": formulas.bias_correction(scalars, "beta_1"),
            "correction_2": formulas.bias_correction(scalars, "beta_2"),
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
        root = tf.sqrt(v / scalars.correction_2) + scalars.epsilon
        direction = formulas.ratio(m / scalars.correction_1, root, scalars.epsilon)
        if scalars.decays:
            direction += scalars.weight_decay * value
        step = scalars.learning_rate * direction
        if scalars.adapts:
            size, norm = tf.unstack(norms.norms([value, direction]).values)
            step *= formulas.trust_ratio(size, norm, value.dtype)
        return value - step, {"momentum": m, "velocity": v}
