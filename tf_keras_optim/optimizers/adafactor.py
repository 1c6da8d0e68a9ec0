"""Adafactor: a second moment kept as row and column sums."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.numerics import formulas, norms
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo, of_shape, slots_for
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, Listed, registered


def _listed_by_keras(optimizer: "Adafactor", shape: tuple[int, ...], keras: int) -> Listed:
    """A full second moment too where rows and columns stand for it; never used places."""
    if len(shape) < 2:
        return [(None, None)] * 2 * (keras == 3) + [("velocity", shape)]
    row, column = slots_for(optimizer, of_shape(shape))[:2]
    return [("row", row.shape), ("column", column.shape), (None, shape)]


_FIXED = {"relative_step": True}  # Keras is so in any case
_ONLY = {"scale_parameter": True, "beta_1": None}
_LISTS = {"_r": "row", "_c": "column", "_v": "velocity"}
_IN_KERAS = InKeras("Adafactor", _FIXED, _ONLY, listed=_listed_by_keras, lists=_LISTS)


@registered({"learning_rate": 0.2}, _IN_KERAS)
class Adafactor(Optimizer):
    """Adafactor.

    ```
    rho = min(lr, 1 / sqrt(t)) if relative_step else lr
    alpha = max(epsilon_2, rms(w)) * rho if scale_parameter else rho
    beta = 1 - t^beta_2_decay
    s = g^2 + epsilon_1
    rank >= 2:  r <- beta * r + (1 - beta) * mean(s, last axis)
                c <- beta * c + (1 - beta) * mean(s, last axis but one)
                v = r / mean(r, last axis) * c        (outer product)
    otherwise:  v <- beta * v + (1 - beta) * s
    u = g / sqrt(v)
    d = alpha * u / max(1, rms(u) / clip_threshold)
    beta_1 given: m <- m + (1 - beta_1) * (d - m), which stands in the place of d below
    w <- w - d
    ```

    Two things differ from Keras: a factored variable keeps only its row and column
    statistics (Keras also keeps a full-size second moment), and
    `relative_step=False` takes the rate as it is (in Keras it has no effect). Where Keras
    gives NaN, at gradients with a zero row and a zero column and at those whose squares
    overflow, steps stay finite; in `s` an element counts with at most about 1e18.

    {{arguments}}

    State: for rank 2 and above slots `row` and `column`, a 1000x1000 matrix keeps
    2,000 numbers; else one slot `velocity` (4 bytes a parameter). With `beta_1` also
    `momentum` (4 bytes a parameter; 1 with `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row counts, as with the dense gradient.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Adafactor(learning_rate=0.5)
      >>> w = tf.Variable([1.0, 1.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.5, 1.5], dtype=float32)

    Source: Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear
    Memory Cost", ICML 2018.
    """

    slot_meanings = {
        "velocity": "Adafactor: mean of squared gradients",
        "row": "Adafactor: mean of squared gradients over rows",
        "column": "Adafactor: mean of squared gradients over columns",
        "momentum": "Adafactor: mean of steps",
    }
    learning_rate = LearningRate(0.001)
    beta_2_decay = Hyperparameter(
        -0.8, below=0.0, doc="power of the step by which the second moment decays"
    )
    epsilon_1 = Hyperparameter(1e-30, minimum=0.0, doc="constant added to squared gradients")
    epsilon_2 = Hyperparameter(
        1e-3, minimum=0.0, doc="smallest size of a variable that the step is scaled to"
    )
    clip_threshold = Hyperparameter(
        1.0, above=0.0, doc="largest root mean square of the step before the rate"
    )
    relative_step = Hyperparameter(True, doc="lower the rate to at most `1 / sqrt(t)`")
    scale_parameter = Hyperparameter(
        True, keyword_only=True, doc="scale the step to the root mean square of the variable"
    )
    beta_1 = decay(None, "decay of a mean of the steps, or `None` for no mean", by_name=True)

    def slots_for(self, variable: VariableInfo) -> tuple[Slot, ...]:
        """Row and column statistics of matrices; the second moment of vectors."""
        mean = () if self.beta_1 is None else (Slot("momentum", eight_bit="signed"),)
        if variable.rank < 2:
            return (Slot("velocity"), *mean)
        *leading, rows, columns = variable.shape
        row, column = (*leading, rows), (*leading, columns)
        return (Slot("row", shape=row), Slot("column", shape=column), *mean)

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The rate before scaling, and how much the new gradient counts."""
        rate = scalars.learning_rate
        if self.relative_step:
            rate = tf.minimum(rate, 1.0 / tf.sqrt(scalars.total_step))
        return {"rho": rate, "share": scalars.step**scalars.beta_2_decay}

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        square, share = tf.square(norms.countable(gradient)) + scalars.epsilon_1, scalars.share
        if "velocity" in slots:
            v = slots["velocity"] + (square - slots["velocity"]) * share
            after = {"velocity": v}
            direction = formulas.ratio(gradient, tf.sqrt(v), scalars.epsilon_1)
        else:
            row, column = formulas.factors(slots["row"], slots["column"], square, share)
            after = {"row": row, "column": column}
            direction = formulas.divided_by_factors(gradient, row, column)
        direction /= tf.maximum(norms.root_mean_square(direction) / scalars.clip_threshold, 1.0)
        alpha = scalars.rho
        if scalars.scale_parameter:
            alpha *= tf.maximum(norms.root_mean_square(value), scalars.epsilon_2)
        step = alpha * direction
        if "momentum" in slots:
            step = after["momentum"] = formulas.moment(slots["momentum"], step, scalars.beta_1)
        return value - step, after
