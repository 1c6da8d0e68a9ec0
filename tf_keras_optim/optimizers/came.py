"""CAME: Adafactor's steps, smaller where they differ from their mean."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.numerics import formulas, norms
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.005, "beta_3": 0.99})
class CAME(Optimizer):
    """CAME: confidence-guided, with the memory of Adafactor and a mean.

    ```
    s = g^2 + epsilon_1
    rank >= 2:  r <- beta_2 * r + (1 - beta_2) * mean(s, last axis)
                c <- beta_2 * c + (1 - beta_2) * mean(s, last axis but one)
                v = r / mean(r, last axis) * c        (outer product)
    otherwise:  v <- beta_2 * v + (1 - beta_2) * s
    u = g / sqrt(v);  u <- u / max(1, rms(u) / clip_threshold)
    m <- m + (1 - beta_1) * (u - m)
    rank >= 2:  d = (u - m)^2 + epsilon_2, from which a second pair of means as r and c, of
                decay beta_3, gives q as v above
                w <- w - lr * m / sqrt(q)
    otherwise:  w <- w - lr * m
    ```

    There is no bias correction, as in the paper: at the default decays the first steps of a
    matrix are several times as long as the later ones, so warm up.

    {{arguments}}

    State: slot `momentum` (4 bytes a parameter; 1 with `slot_dtype="int8"`); for rank 2 and
    above `row`, `column`, `residual_row` and `residual_column`, of a 1000x1000 matrix 4,000
    numbers; else `velocity` (4 bytes a parameter).

    Sparse gradients: duplicate rows are summed; every row counts, as with the dense gradient.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = CAME(learning_rate=0.5)
      >>> w = tf.Variable([1.0, 1.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.95, 1.05], dtype=float32)

    Source: Luo et al., "CAME: Confidence-guided Adaptive Memory Efficient Optimization", ACL
    2023 (arXiv 2307.02047).
    """

    slot_meanings = {
        "momentum": "CAME: mean of steps",
        "velocity": "CAME: mean of squared gradients",
        "row": "CAME: mean of squared gradients over rows",
        "column": "CAME: mean of squared gradients over columns",
        "residual_row": "CAME: mean of squared differences over rows",
        "residual_column": "CAME: mean of squared differences over columns",
    }
    learning_rate = LearningRate(0.0002)
    beta_1 = decay(0.9, "decay of the mean of the steps")
    beta_2 = decay(0.999, "decay of the second moment")
    beta_3 = decay(0.9999, "decay of the mean of squared differences")
    epsilon_1 = Hyperparameter(1e-30, minimum=0.0, doc="constant added to squared gradients")
    epsilon_2 = Hyperparameter(1e-16, minimum=0.0, doc="constant added to those differences")
    clip_threshold = Hyperparameter(
        1.0, above=0.0, doc="largest root mean square of a step before its mean"
    )

    def slots_for(self, variable: VariableInfo) -> tuple[Slot, ...]:
        """The mean, and row and column statistics of matrices."""
        momentum = Slot("momentum", eight_bit="signed")
        if variable.rank < 2:
            return (momentum, Slot("velocity"))
        *leading, rows, columns = variable.shape
        sides = {"row": (*leading, rows), "column": (*leading, columns)}
        return (
            momentum,
            *(Slot(name, shape=shape) for name, shape in sides.items()),
            *(Slot(f"residual_{name}", shape=shape) for name, shape in sides.items()),
        )

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        square, after = tf.square(norms.countable(gradient)) + scalars.epsilon_1, {}
        if "velocity" in slots:
            v = formulas.moment(slots["velocity"], square, scalars.beta_2)
            after["velocity"] = v
            u = formulas.ratio(gradient, tf.sqrt(v), scalars.epsilon_1)
        else:
            beta = 1.0 - scalars.beta_2
            sides = formulas.factors(slots["row"], slots["column"], square, beta)
            after["row"], after["column"] = sides
            u = formulas.divided_by_factors(gradient, *sides)
        u /= tf.maximum(norms.root_mean_square(u) / scalars.clip_threshold, 1.0)
        m = step = after["momentum"] = formulas.moment(slots["momentum"], u, scalars.beta_1)
        if "row" in slots:
            square = tf.square(norms.countable(u - m)) + scalars.epsilon_2
            sides = slots["residual_row"], slots["residual_column"]
            sides = formulas.factors(*sides, square, 1.0 - scalars.beta_3)
            after["residual_row"], after["residual_column"] = sides
            step = formulas.divided_by_factors(m, *sides)
        return value - scalars.learning_rate * step, after
