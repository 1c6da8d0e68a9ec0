"""MARS: AdamW along gradients that the change since the last one corrects."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, by_name, decay
from tf_keras_optim.engine.numerics import formulas, norms
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.02, "gamma": 0.05})
class MARS(Optimizer):
    """MARS, with AdamW for vectors.

    ```
    c = g + gamma * beta_1 / (1 - beta_1) * (g - last);  last <- g
    c <- c / max(1, |c|)                                  |c|: the norm over the variable
    m <- m + (1 - beta_1) * (c - m)
    v <- v + (1 - beta_2) * (c^2 - v)
    w <- w - lr * m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
    vectors: as `AdamW`, with `adam_beta_1` and `adam_beta_2`
    ```

    The difference of two gradients lowers the variance of the mean `m`. It is the paper's
    approximate form: `last` is the gradient at the last weights of the last batch, which costs
    no second pass. In the first update of a variable the difference is 0.

    {{arguments}}

    State: slots `momentum`, `velocity` and, for variables of two axes or more, `last_gradient`
    (12 bytes a parameter, 9 with `slot_dtype="int8"`; vectors 8 and 2). The `velocity` of those
    begins at -1 for "no gradient yet".

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense gradient.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = MARS(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.9, 2.1], dtype=float32)

    Source: Yuan et al., "MARS: Unleashing the Power of Variance Reduction for Training Large
    Models", ICML 2025 (arXiv 2411.10438).
    """

    corrected = ("beta_1", "beta_2", "adam_beta_1", "adam_beta_2")
    slot_meanings = {
        "momentum": "MARS: mean of corrected gradients",
        "velocity": "MARS: mean of their squares, or -1",
        "last_gradient": "MARS: last gradient",
    }
    learning_rate = LearningRate(0.003)
    beta_1 = decay(0.95, "decay of the first moment")
    beta_2 = decay(0.99, "decay of the second moment")
    epsilon = Hyperparameter(1e-8, minimum=0.0, doc="small constant for numerical stability")
    gamma = by_name(0.025, "strength of the correction; 0 for none", minimum=0.0)
    adam_beta_1 = decay(0.9, "decay of the first moment of vectors", by_name=True)
    adam_beta_2 = decay(0.95, "decay of the second moment of vectors", by_name=True)

    def slots_for(self, variable: VariableInfo) -> tuple[Slot, ...]:
        """The two moments, and the last gradient where it is needed."""
        if variable.rank < 2:
            mean = Slot("momentum", eight_bit="signed", meaning="first moment")
            return (mean, Slot("velocity", eight_bit="unsigned", meaning="second moment"))
        momentum = Slot("momentum", eight_bit="signed")
        return (momentum, Slot("velocity", start=-1.0), Slot("last_gradient"))

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """Rates and constants with the bias corrections of either kind of variable."""
        found: dict[str, Any] = {}
        for kind in ("", "adam_"):
            names = (f"{kind}beta_1", f"{kind}beta_2")
            rate, root = formulas.corrected_rate(scalars, names=names)
            found |= {f"{kind}alpha": rate, f"{kind}small": scalars.epsilon * root}
        found["share"] = scalars.gamma * scalars.beta_1 / (1.0 - scalars.beta_1)
        return {name: tf.convert_to_tensor(x, scalars.step.dtype) for name, x in found.items()}

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        if "last_gradient" not in slots:
            betas = (scalars.adam_beta_1, scalars.adam_beta_2)
            after = formulas.moments(gradient, slots, *betas)
            return self._moved(value, after, scalars.adam_alpha, scalars.adam_small), after
        v, change = slots["velocity"], gradient - slots["last_gradient"]
        change = tf.where(v < 0.0, tf.zeros_like(change), change)
        c = gradient + scalars.share * change
        c /= tf.maximum(tf.cast(norms.norm(c), c.dtype), 1.0)
        before: dict[str, Any] = {"momentum": slots["momentum"], "velocity": tf.maximum(v, 0.0)}
        after = formulas.moments(c, before, scalars.beta_1, scalars.beta_2)
        value = self._moved(value, after, scalars.alpha, scalars.small)
        return value, after | {"last_gradient": gradient}

    def _moved(
        self, value: tf.Tensor, slots: Mapping[str, tf.Tensor], rate: Any, epsilon: Any
    ) -> tf.Tensor:
        """Returns the value after AdamW's step, without its decay."""
        step, square = rate * slots["momentum"], slots["velocity"]
        return formulas.divided_step(value, step, square, epsilon, self.epsilon)
