"""LARS: SGD with a rate for each variable, by its size."""

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
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.1, "trust_coefficient": 0.05})
class LARS(Optimizer):
    """LARS: layer-wise adaptive rate scaling.

    ```
    ratio = trust_coefficient * |w| / (|g| + weight_decay * |w| + epsilon),
            1 if |w| or |g| is 0
    s = lr * ratio * (g + weight_decay * w)
    v <- momentum * v - s
    w <- w + v                        (plain)
    w <- w + momentum * v - s         (nesterov)
    ```

    The rate is inside the momentum, so a new rate does not act on the steps before. Weight
    decay is part of the gradient that the ratio scales. Biases and the parameters of norms
    are usually left out of both: `exclude_from_layer_adaptation` gives them the ratio 1,
    `exclude_from_weight_decay` keeps the decay off.

    {{arguments}}

    State: slot `momentum` (4 bytes a parameter; 1 with `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = LARS(learning_rate=1.0, trust_coefficient=0.1)
      >>> w = tf.Variable([3.0, 4.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([0.3, -0.4]), w)])
      >>> w.numpy().round(3)
      array([2.7, 4.4], dtype=float32)

    Source: You, Gitman & Ginsburg, "Large Batch Training of Convolutional Networks",
    2017 (arXiv 1708.03888).
    """

    slot_meanings = {"momentum": "LARS: last step"}
    counts_updates = False
    learning_rate = LearningRate(0.01)
    momentum = Hyperparameter(
        0.9, minimum=0.0, maximum=1.0, schedulable=True, doc="how much of the last step is kept"
    )
    nesterov = Hyperparameter(False, doc="look ahead along the momentum")
    trust_coefficient = Hyperparameter(
        0.001, above=0.0, doc="length of a step at rate 1, as a fraction of the variable's"
    )
    epsilon = Hyperparameter(0.0, minimum=0.0, doc="constant added to the gradient's norm")
    exclude_from_layer_adaptation = Patterns(
        doc="regular expressions, searched in a variable's path; those variables take the "
        "ratio 1 (biases and norms, often)"
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The last step."""
        return (Slot("momentum", eight_bit="signed"),)

    @property
    def decays_in_update(self) -> bool:
        """The decay is part of what the ratio scales."""
        return True

    def options_for(self, variable: VariableInfo) -> dict[str, bool]:
        """Whether the ratio and the decay apply to a variable."""
        patterns = self.exclude_from_layer_adaptation
        return {
            "adapts": not any(re.search(pattern, variable.path) for pattern in patterns),
            "decays": variable.decays,
        }

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        decay = scalars.weight_decay if scalars.decays else 0.0
        direction = formulas.penalized(gradient, value, decay) if scalars.decays else gradient
        step = scalars.learning_rate * direction
        if scalars.adapts:
            size, norm = tf.unstack(norms.norms([value, gradient]).values)
            wide = tf.cast(decay, tf.float64) if isinstance(decay, tf.Tensor) else decay
            whole = norm + wide * size + scalars.epsilon
            whole = tf.where(norm > 0.0, whole, tf.zeros_like(whole))
            trusted = scalars.trust_coefficient * size
            step *= formulas.trust_ratio(trusted, whole, value.dtype)
        last, momentum = slots["momentum"], scalars.momentum
        value, last = formulas.with_momentum(value, step, last, momentum, scalars.nesterov)
        return value, {"momentum": last}
