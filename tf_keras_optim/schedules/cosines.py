"""Half cosines: one, or one after another, with the signatures that Keras gives them."""

import math

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import REQUIRED, Hyperparameter
from tf_keras_optim.schedules.base import Schedule, registered

_ROUNDING = 1e-12  # of where a piece starts, computed in float64; relative


def half_cosine(fraction: tf.Tensor) -> tf.Tensor:
    """Falls from 1 to 0 while the fraction goes from 0 to 1."""
    return 0.5 * (1.0 + tf.cos(math.pi * fraction))


@registered
class CosineDecay(Schedule):
    """Falls along a half cosine to a fraction of its start, after an optional linear warmup.

    ```
    top = initial_learning_rate, or warmup_target where it is given
    step < warmup_steps:  linear from initial_learning_rate to the top
    afterwards:           top * (alpha + (1 - alpha) * (1 + cos(pi * fraction)) / 2)
                          fraction = min(step - warmup_steps, decay_steps) / decay_steps
    ```

    {{arguments}}

    Source: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", ICLR 2017.

    Example:
      >>> schedule = CosineDecay(0.5, decay_steps=100)
      >>> [round(float(schedule(step)), 6) for step in (0, 50, 100)]
      [0.5, 0.25, 0.0]
    """

    step_dtype = tf.float64
    initial_learning_rate = Hyperparameter(REQUIRED, kind=float, doc="the rate at step 0")
    decay_steps = Hyperparameter(
        REQUIRED, kind=float, above=0.0, doc="number of steps of the decay, without the warmup."
    )
    alpha = Hyperparameter(0.0, doc="the last rate, as a fraction of the largest one")
    name = Hyperparameter("CosineDecay", optional=True, doc="kept in the configuration")
    warmup_target = Hyperparameter(
        None, kind=float, doc="the rate at the end of the warmup, or `None` for no warmup"
    )
    warmup_steps = Hyperparameter(
        0.0,
        minimum=0.0,
        doc="number of steps of the warmup, at least 0. Not used without `warmup_target`.",
    )

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        if self.warmup_target is None:
            return self._decay(step, self.initial_learning_rate)
        decayed = self._decay(step - self.warmup_steps, self.warmup_target)
        if not self.warmup_steps:
            return decayed
        rise = self.warmup_target - self.initial_learning_rate
        warming = self.initial_learning_rate + rise * (step / self.warmup_steps)
        return tf.where(step < self.warmup_steps, warming, decayed)

    def _decay(self, step: tf.Tensor, top: float) -> tf.Tensor:
        fraction = tf.minimum(step, self.decay_steps) / self.decay_steps
        return top * ((1.0 - self.alpha) * half_cosine(fraction) + self.alpha)


@registered
class CosineDecayRestarts(Schedule):
    """Falls along half cosines, one after another; each may be longer and lower than the last.

    ```
    length of piece i = first_decay_steps * t_mul^i
    rate in piece i   = initial_learning_rate * ((1 - alpha) * m_mul^i * cosine + alpha)
    ```

    The start of a piece is exact: a logarithm alone could round it to the end of the piece
    before.

    {{arguments}}

    Source: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", ICLR 2017.

    Example:
      >>> schedule = CosineDecayRestarts(0.5, first_decay_steps=10)
      >>> [round(float(schedule(step)), 6) for step in (0, 5, 10, 20, 30)]
      [0.5, 0.25, 0.5, 0.25, 0.5]
    """

    step_dtype = tf.float64
    initial_learning_rate = Hyperparameter(REQUIRED, kind=float, doc="the rate at step 0")
    first_decay_steps = Hyperparameter(
        REQUIRED, kind=float, above=0.0, doc="number of steps of the first piece."
    )
    t_mul = Hyperparameter(
        2.0, minimum=1.0, doc="factor from the length of one piece to that of the next"
    )
    m_mul = Hyperparameter(
        1.0, minimum=0.0, doc="factor from the height of one piece to that of the next"
    )
    alpha = Hyperparameter(0.0, doc="the lowest rate, as a fraction of the initial one")
    name = Hyperparameter("SGDRDecay", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        fraction = step / self.first_decay_steps
        if self.t_mul == 1.0:
            piece = tf.floor(fraction)
            fraction -= piece
        else:
            growth = math.log(self.t_mul)
            piece = tf.floor(tf.math.log1p(fraction * (self.t_mul - 1.0)) / growth)
            # The logarithm is rounded; a step within its rounding of a start is that start.
            reached = fraction * (1.0 + _ROUNDING)
            piece += tf.cast(reached >= self._start(piece + 1.0), tf.float64)
            piece -= tf.cast(reached < self._start(piece), tf.float64)
            done = tf.maximum(fraction - self._start(piece), 0.0)
            fraction = done / tf.exp(growth * piece)
        height = self.m_mul**piece * half_cosine(fraction)
        return self.initial_learning_rate * ((1.0 - self.alpha) * height + self.alpha)

    def _start(self, piece: tf.Tensor) -> tf.Tensor:
        """Where a piece starts, in lengths of the first one."""
        return tf.math.expm1(math.log(self.t_mul) * piece) / (self.t_mul - 1.0)
