"""Schedules made of schedules."""

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import REQUIRED, Hyperparameter
from tf_keras_optim.schedules.base import Inner, Numbers, Schedule, registered, value_of


@registered
class Warmup(Schedule):
    """Rises linearly to the first value of a schedule, then follows it from its step 0.

    {{arguments}}

    Source: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1
    Hour", 2017.

    Example:
      >>> schedule = Warmup(0.5, steps=4)
      >>> [round(float(schedule(step)), 6) for step in (0, 1, 2, 3, 4, 5)]
      [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]
    """

    step_dtype = None
    schedule = Inner(doc="the schedule, or number, after the warmup")
    steps = Hyperparameter(REQUIRED, kind=int, minimum=1, doc="number of steps of the warmup")
    initial_learning_rate = Hyperparameter(0.0, doc="the rate at step 0")
    name = Hyperparameter("Warmup", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        # During the warmup the schedule stands at its step 0, which is where it leads.
        after = value_of(self.schedule, _since(self.steps, step))
        fraction = tf.cast(step, tf.float64) / self.steps
        rise = (after - self.initial_learning_rate) * fraction
        return tf.where(step < self.steps, self.initial_learning_rate + rise, after)


@registered
class Join(Schedule):
    """Runs one schedule after another; each counts steps from its own start.

    {{arguments}}

    Raises:
      ValueError: the lengths do not match, or the boundaries do not increase.

    Example:
      >>> schedule = Join([0.5, Warmup(0.25, steps=2)], boundaries=[10])
      >>> [round(float(schedule(step)), 6) for step in (9, 10, 11, 12)]
      [0.5, 0.0, 0.125, 0.25]
    """

    step_dtype = None
    schedules = Inner(
        several=True,
        doc="schedules, or numbers for constant pieces; one more than `boundaries`",
    )
    boundaries = Numbers(
        increasing=True,
        doc="increasing step numbers; `schedules[i + 1]` begins at step `boundaries[i]`",
    )
    name = Hyperparameter("Join", optional=True, doc="kept in the configuration")

    def check(self) -> None:
        """Refuses lists whose lengths do not match."""
        if len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(
                "Join: argument `schedules` must have one entry more than `boundaries`. "
                f"Received: {len(self.schedules)} schedules and boundaries={self.boundaries}."
            )

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        value = value_of(self.schedules[0], step)
        for schedule, start in zip(self.schedules[1:], self.boundaries):
            piece = value_of(schedule, _since(start, step))
            value = tf.where(tf.cast(step, tf.float64) >= start, piece, value)
        return value


def _since(start: float, step: tf.Tensor) -> tf.Tensor:
    """Returns the steps since a piece began, 0 before; an integer where both are."""
    if not step.dtype.is_floating:
        if not float(start).is_integer():
            step = tf.cast(step, tf.float64)
        else:
            start = int(start)
    return tf.maximum(step - start, tf.zeros_like(step))
