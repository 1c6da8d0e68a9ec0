"""Schedule-Free SGD."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.records import registered
from tf_keras_optim.optimizers.schedule_free_shared import ScheduleFree


@registered({"learning_rate": 0.2})
class ScheduleFreeSGD(ScheduleFree):
    """Schedule-Free SGD: a constant rate, and a mean of the weights for evaluation.

    ```
    rate = lr * min(1, t / warmup_steps)
    weight = t^averaging_power * max(rate so far)^rate_power,   c = weight / sum of weights
    d = g + weight_decay * y
    y <- y + c * (z - y) + rate * (momentum * (1 - c) - 1) * d      with z before the step
    z <- z - rate * d
    x = y + (1 - 1 / momentum) * (z - y)                            for evaluation
    ```

    The model's weights are y while it trains; x is what to evaluate, save and export. See
    `ScheduleFreeAdamW`. Good rates are 10 to 50 times those of SGD with a schedule.

    {{arguments}}

    State: slot `z` (4 bytes a parameter; 4 more from the first time on that x is put in
    place), and two numbers, `weight_sum` and `largest_rate`.

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient.

    Raises:
      ValueError: an argument is out of range, or `use_ema` or `cautious` is set.

    Example:
      >>> optimizer = ScheduleFreeSGD(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.9, 2.1], dtype=float32)

    Source: Defazio et al., "The Road Less Scheduled", NeurIPS 2024 (arXiv 2405.15682).
    """

    slot_meanings = {"z": "Schedule-Free: base sequence"}
    learning_rate = LearningRate(1.0)
    momentum = Hyperparameter(
        0.9,
        above=0.0,
        maximum=1.0,
        position=1,
        doc="share of the mean in the weights that are trained, above 0",
    )

    @property
    def mixing(self) -> float:
        """The share of the mean in the weights that are trained."""
        return self.momentum

    def direction(
        self, gradient: tf.Tensor, slots: Mapping[str, tf.Tensor], scalars: Scalars
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The gradient."""
        return gradient, {}
