"""Schedules for whole runs: one cycle, many cycles, or a known number of steps."""

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import REQUIRED, Hyperparameter
from tf_keras_optim.schedules.base import Schedule, registered
from tf_keras_optim.schedules.cosines import half_cosine


def _between(start: float, end: float, weight: tf.Tensor) -> tf.Tensor:
    """Goes from `start` to `end` while the weight goes from 0 to 1."""
    return start + (end - start) * weight


@registered
class OneCycle(Schedule):
    """Rises along a half cosine to a maximum and falls along another to almost 0, once.

    ```
    start = max_learning_rate / initial_divisor,  end = start / final_divisor
    0 to warmup_fraction * total_steps:  start to max_learning_rate
    then up to total_steps:              max_learning_rate to end, where it stays
    ```

    {{arguments}}

    Source: Smith & Topin, "Super-Convergence: Very Fast Training of Neural Networks
    Using Large Learning Rates", 2018.

    Example:
      >>> schedule = OneCycle(1.0, total_steps=100, initial_divisor=4.0)
      >>> [round(float(schedule(step)), 6) for step in (0, 30)]
      [0.25, 1.0]
    """

    step_dtype = tf.float64
    max_learning_rate = Hyperparameter(REQUIRED, kind=float, doc="the largest rate")
    total_steps = Hyperparameter(
        REQUIRED, kind=int, minimum=2, doc="number of steps of the cycle"
    )
    warmup_fraction = Hyperparameter(
        0.3, above=0.0, below=1.0, doc="fraction of them in which the rate rises, in (0, 1)."
    )
    initial_divisor = Hyperparameter(
        25.0, above=0.0, doc="`max_learning_rate` divided by the rate at step 0."
    )
    final_divisor = Hyperparameter(
        1e4, above=0.0, doc="the rate at step 0 divided by the last rate."
    )
    name = Hyperparameter("OneCycle", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        top = self.max_learning_rate
        start = top / self.initial_divisor
        rising_steps = self.warmup_fraction * self.total_steps
        falling_steps = self.total_steps - rising_steps
        fallen = tf.minimum((step - rising_steps) / falling_steps, 1.0)
        return tf.where(
            step < rising_steps,
            _between(top, start, half_cosine(step / rising_steps)),
            _between(start / self.final_divisor, top, half_cosine(fallen)),
        )


@registered
class WarmupStableDecay(Schedule):
    """Rises linearly, stays constant for most of the run, and falls at its end.

    The constant part can be extended at any time: only the decay depends on where the
    run ends.

    {{arguments}}

    Source: Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models",
    2024; Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed
    Training Durations", 2024 (the square root).

    Example:
      >>> schedule = WarmupStableDecay(0.5, warmup_steps=2, stable_steps=6, decay_steps=2)
      >>> [round(float(schedule(step)), 6) for step in (0, 1, 2, 8, 9, 10)]
      [0.0, 0.25, 0.5, 0.5, 0.25, 0.0]
    """

    step_dtype = tf.float64
    learning_rate = Hyperparameter(REQUIRED, kind=float, doc="the constant rate")
    warmup_steps = Hyperparameter(
        REQUIRED, kind=int, minimum=0, doc="number of steps until it is reached"
    )
    stable_steps = Hyperparameter(
        REQUIRED, kind=int, minimum=0, doc="number of steps at the constant rate"
    )
    decay_steps = Hyperparameter(
        REQUIRED, kind=int, minimum=1, doc="number of steps to `end_learning_rate`"
    )
    initial_learning_rate = Hyperparameter(
        0.0, doc="the rate at step 0, where there is a warmup"
    )
    end_learning_rate = Hyperparameter(0.0, doc="the rate after the decay")
    decay = Hyperparameter(
        "linear",
        choices=("linear", "cosine", "sqrt"),
        doc='form of the decay: "linear", "cosine" or "sqrt" (one minus the square root of '
        "the fraction done)",
    )
    name = Hyperparameter("WarmupStableDecay", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        level = self.learning_rate
        done = (step - self.warmup_steps - self.stable_steps) / self.decay_steps
        done = tf.clip_by_value(done, 0.0, 1.0)
        forms = {"linear": lambda x: 1.0 - x, "cosine": half_cosine}
        left = forms.get(self.decay, lambda x: 1.0 - tf.sqrt(x))(done)
        value = _between(self.end_learning_rate, level, left)
        if not self.warmup_steps:
            return value
        warming = _between(self.initial_learning_rate, level, step / self.warmup_steps)
        return tf.where(step < self.warmup_steps, warming, value)


@registered
class InverseSqrt(Schedule):
    """Rises linearly, then falls with the inverse square root of the step.

    ```
    step < warmup_steps:  from initial_learning_rate to learning_rate
    afterwards:           learning_rate * sqrt(warmup_steps / step)
    ```

    {{arguments}}

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 5.3.

    Example:
      >>> schedule = InverseSqrt(0.5, warmup_steps=100)
      >>> [round(float(schedule(step)), 6) for step in (0, 50, 100, 400)]
      [0.0, 0.25, 0.5, 0.25]
    """

    step_dtype = tf.float64
    learning_rate = Hyperparameter(
        REQUIRED, kind=float, doc="the largest rate, reached at step `warmup_steps`"
    )
    warmup_steps = Hyperparameter(
        REQUIRED, kind=int, minimum=1, doc="number of steps of the warmup, at least 1."
    )
    initial_learning_rate = Hyperparameter(0.0, doc="the rate at step 0")
    name = Hyperparameter("InverseSqrt", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        progress = step / self.warmup_steps
        warming = _between(self.initial_learning_rate, self.learning_rate, progress)
        after = self.learning_rate * tf.math.rsqrt(tf.maximum(progress, 1.0))
        return tf.where(progress < 1.0, warming, after)


@registered
class Cyclical(Schedule):
    """Rises and falls linearly between two rates, repeatedly.

    {{arguments}}

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.

    Example:
      >>> schedule = Cyclical(0.25, 0.75, step_size=2)
      >>> [round(float(schedule(step)), 6) for step in (0, 1, 2, 3, 4)]
      [0.25, 0.5, 0.75, 0.5, 0.25]
    """

    step_dtype = tf.float64
    initial_learning_rate = Hyperparameter(
        REQUIRED, kind=float, doc="the lower rate, at step 0"
    )
    maximal_learning_rate = Hyperparameter(
        REQUIRED, kind=float, doc="the upper rate, at step `step_size`"
    )
    step_size = Hyperparameter(
        REQUIRED, kind=int, minimum=1, doc="number of steps of half a cycle"
    )
    mode = Hyperparameter(
        "triangular",
        choices=("triangular", "triangular2", "exponential"),
        doc='"triangular" (every cycle alike), "triangular2" (the height is halved '
        'with each cycle) or "exponential" (the height is multiplied by `gamma` with '
        "each step)",
    )
    gamma = Hyperparameter(
        1.0, above=0.0, maximum=1.0, doc='factor of the mode "exponential", in (0, 1].'
    )
    name = Hyperparameter("Cyclical", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        cycle = tf.floor(step / (2 * self.step_size))
        within = step - cycle * (2 * self.step_size)
        height = 1.0 - tf.abs(within / self.step_size - 1.0)
        if self.mode == "triangular2":
            height *= 0.5**cycle
        elif self.mode == "exponential":
            height *= self.gamma**step
        return _between(self.initial_learning_rate, self.maximal_learning_rate, height)


@registered
class Rex(Schedule):
    """Reflected exponential: falls slowly at first, and fast towards a known last step.

    ```
    left = 1 - min(step, decay_steps) / decay_steps
    rate = initial_learning_rate * left / (1/2 + left / 2)
    ```

    {{arguments}}

    Source: Chen, Wolfe & Kyrillidis, "REX: Revisiting Budgeted Training with an
    Improved Schedule", MLSys 2022.

    Example:
      >>> schedule = Rex(0.75, decay_steps=100)
      >>> [round(float(schedule(step)), 6) for step in (0, 50, 100)]
      [0.75, 0.5, 0.0]
    """

    step_dtype = tf.float64
    initial_learning_rate = Hyperparameter(REQUIRED, kind=float, doc="the rate at step 0")
    decay_steps = Hyperparameter(
        REQUIRED, kind=int, minimum=1, doc="number of steps until the rate is 0"
    )
    name = Hyperparameter("Rex", optional=True, doc="kept in the configuration")

    def value(self, step: tf.Tensor) -> tf.Tensor:
        """See the class."""
        left = 1.0 - tf.minimum(step / self.decay_steps, 1.0)
        return self.initial_learning_rate * left / (0.5 + 0.5 * left)
