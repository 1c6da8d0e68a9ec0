"""Decays by a power, a fraction or a table, with the signatures that Keras gives them."""

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import REQUIRED, Hyperparameter
from tf_keras_optim.schedules.base import Numbers, Schedule, registered


def _progress(step: tf.Tensor, decay_steps: float, staircase: bool) -> tf.Tensor:
    progress = step / decay_steps
    return tf.floor(progress) if staircase else progress


@registered
class ExponentialDecay(Schedule):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`.

    {{arguments}}

    Example:
      >>> schedule = ExponentialDecay(0.1, decay_steps=100, decay_rate=0.5)
      >>> float(schedule(200))
      0.02500000037252903
    """

    step_dtype = tf.float64
    initial_learning_rate = Hyperparameter(REQUIRED, kind=float, doc="the rate at step 0")
    decay_steps = Hyperparameter(
        REQUIRED,
        kind=float,
        above=0.0,
        doc="number of steps in which the rate is multiplied by `decay_rate` once.",
    )
    decay_rate = Hyperparameter(REQUIRED, kind=float, minimum=0.0, doc="the factor")
    staircase = Hyperparameter(False, doc="round `step / decay_steps` down")
    name = Hyperparameter("ExponentialDecay", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        progress = _progress(step, self.decay_steps, self.staircase)
        return self.initial_learning_rate * self.decay_rate**progress


@registered
class InverseTimeDecay(Schedule):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`.

    {{arguments}}

    Example:
      >>> schedule = InverseTimeDecay(0.1, decay_steps=100, decay_rate=0.5)
      >>> float(schedule(200))
      0.05000000074505806
    """

    step_dtype = tf.float64
    initial_learning_rate = Hyperparameter(REQUIRED, kind=float, doc="the rate at step 0")
    decay_steps = Hyperparameter(
        REQUIRED,
        kind=float,
        above=0.0,
        doc="number of steps in which the denominator grows by `decay_rate`.",
    )
    decay_rate = Hyperparameter(
        REQUIRED, kind=float, minimum=0.0, doc="growth of the denominator"
    )
    staircase = Hyperparameter(False, doc="round `step / decay_steps` down")
    name = Hyperparameter("InverseTimeDecay", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        progress = _progress(step, self.decay_steps, self.staircase)
        return self.initial_learning_rate / (1.0 + self.decay_rate * progress)


@registered
class PolynomialDecay(Schedule):
    """Falls to `end_learning_rate` along a power of the remaining fraction of the steps.

    ```
    left = 1 - min(step, decay_steps) / decay_steps
    rate = end_learning_rate + (initial_learning_rate - end_learning_rate) * left^power
    ```

    {{arguments}}

    Example:
      >>> schedule = PolynomialDecay(0.1, decay_steps=100, end_learning_rate=0.0)
      >>> float(schedule(50))
      0.05000000074505806
    """

    step_dtype = tf.float64
    initial_learning_rate = Hyperparameter(REQUIRED, kind=float, doc="the rate at step 0")
    decay_steps = Hyperparameter(
        REQUIRED, kind=float, above=0.0, doc="number of steps until the end is reached."
    )
    end_learning_rate = Hyperparameter(0.0001, doc="the rate after that")
    power = Hyperparameter(
        1.0, minimum=0.0, doc="the exponent, at least 0; 1 is a straight line."
    )
    cycle = Hyperparameter(
        False,
        doc="start over at the end, each time with the next multiple of `decay_steps` as the "
        "length, instead of staying there",
    )
    name = Hyperparameter("PolynomialDecay", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        if self.cycle:
            length = self.decay_steps * tf.maximum(tf.math.ceil(step / self.decay_steps), 1.0)
        else:
            length = tf.constant(self.decay_steps, tf.float64)
        left = 1.0 - tf.minimum(step / length, 1.0)  # never below 0, however rounded
        fall = self.initial_learning_rate - self.end_learning_rate
        return self.end_learning_rate + fall * tf.pow(left, self.power)


@registered
class PiecewiseConstantDecay(Schedule):
    """Is constant in pieces: `values[0]` up to and including step `boundaries[0]`, and so on.

    {{arguments}}

    Raises:
      ValueError: the lengths do not match, or the boundaries do not increase.

    Example:
      >>> schedule = PiecewiseConstantDecay([100, 200], [0.5, 0.25, 0.125])
      >>> [round(float(schedule(step)), 6) for step in (100, 101, 201)]
      [0.5, 0.25, 0.125]
    """

    step_dtype = tf.float64
    boundaries = Numbers(
        increasing=True, doc="increasing step numbers, one fewer than `values`"
    )
    values = Numbers(doc="the rate of each piece")
    name = Hyperparameter("PiecewiseConstant", optional=True, doc="kept in the configuration")

    def check(self) -> None:
        """Refuses lists whose lengths do not match."""
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError(
                "PiecewiseConstantDecay: argument `values` must have one entry more than "
                f"`boundaries`. Received: boundaries={self.boundaries} and "
                f"values={self.values}."
            )

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        value = tf.fill(tf.shape(step), tf.constant(self.values[0], tf.float64))
        for boundary, after in zip(self.boundaries, self.values[1:]):
            value = tf.where(step > boundary, tf.constant(after, tf.float64), value)
        return value
