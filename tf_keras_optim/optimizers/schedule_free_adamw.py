"""Schedule-Free AdamW."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.records import InKeras, registered
from tf_keras_optim.optimizers.schedule_free_shared import ScheduleFree

_PLAIN_MEAN = {"beta_1": 1.0, "rate_power": 0.0}  # what Keras' class does on TensorFlow


@registered(
    {"learning_rate": 0.05},
    InKeras(
        "ScheduleFreeAdamW",
        _PLAIN_MEAN,
        only={"averaging_power": 0.0, "rectify": False, "weight_decay": None},
        refused=("weight_decay",),
        unsaved={
            "weight_sum": lambda arguments, updates: updates,
            "largest_rate": lambda arguments, updates: 0.0,
        },
        absent=("weight_sum", "largest_rate"),
        lists={"_momentums": "z"},
    ),
)
class ScheduleFreeAdamW(ScheduleFree):
    """Schedule-Free AdamW: a constant rate, and a mean of the weights for evaluation.

    ```
    rate = lr * min(1, t / warmup_steps)
    weight = t^averaging_power * max(rate so far)^rate_power,   c = weight / sum of weights
    v <- v + (1 - beta_2) * (g^2 - v)
    d = g / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay * y
    y <- y + c * (z - y) + rate * (beta_1 * (1 - c) - 1) * d        with z before the step
    z <- z - rate * d
    x = y + (1 - 1 / beta_1) * (z - y)                              for evaluation
    ```

    The model's weights are y while it trains. x, the weighted mean of all z, is what to
    evaluate, save and export: `with optimizer.evaluation_weights():` and the callback
    `tko.callbacks.EvaluationWeights()` put it in place, and `fit` ends with it. Files say which
    of them they hold, and training goes on from either. Keras' own class of this name has no x,
    and its `beta_1` has no effect on TensorFlow; `tko.convert` sets `beta_1=1, rate_power=0`,
    with which this one does the same.

    {{arguments}}

    State: slots `z` and `velocity` (8 bytes a parameter; 4 more from the first time on that
    x is put in place), and two numbers, `weight_sum` and `largest_rate`.

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient.

    Raises:
      ValueError: an argument is out of range, or `use_ema` or `cautious` is set.

    Example:
      >>> optimizer = ScheduleFreeAdamW(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.9, 2.1], dtype=float32)

    Source: Defazio et al., "The Road Less Scheduled", NeurIPS 2024 (arXiv 2405.15682).
    """

    corrected = ("beta_2",)
    slot_meanings = {"z": "Schedule-Free: base sequence", "velocity": "second moment"}
    learning_rate = LearningRate(0.0025)
    beta_1 = Hyperparameter(
        0.9,
        above=0.0,
        maximum=1.0,
        position=1,
        doc="share of the mean in the weights that are trained, above 0; 0.95 to 0.98 for long "
        "runs.",
    )
    beta_2 = Hyperparameter(
        0.999,
        minimum=0.0,
        below=1.0,
        schedulable=True,
        position=2,
        doc="decay of the second moment",
    )
    epsilon = Hyperparameter(
        1e-8, minimum=0.0, position=3, doc="small constant for numerical stability"
    )
    rectify = Hyperparameter(
        False,
        keyword_only=True,
        doc="multiply the rate with RAdam's factor, which is 0 in the first updates, in place "
        "of the warm-up",
    )

    @property
    def mixing(self) -> float:
        """The share of the mean in the weights that are trained."""
        return self.beta_1

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The sequence that takes the steps, and the second moment."""
        return (*super().slots, Slot("velocity", eight_bit="unsigned"))

    def factor(self, scalars: Scalars) -> tf.Tensor:
        """Returns the factor of the warm-up on the learning rate, or RAdam's."""
        if not self.rectify:
            return super().factor(scalars)
        return formulas.rectification(scalars.step, scalars.beta_2, 4.0)

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The rate, the share in the mean, and the correction of the second moment."""
        correction = formulas.bias_correction(scalars, "beta_2")
        return {**super().prepare(scalars), "correction": correction}

    def direction(
        self, gradient: tf.Tensor, slots: Mapping[str, tf.Tensor], scalars: Scalars
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The gradient over the root of the second moment."""
        v = formulas.moment(slots["velocity"], tf.square(gradient), scalars.beta_2)
        root = tf.sqrt(v / scalars.correction) + scalars.epsilon
        return formulas.ratio(gradient, root, self.epsilon), {"velocity": v}
