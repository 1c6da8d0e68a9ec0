"""Skipping steps whose gradients are not finite, and the loss scale that follows from it."""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_keras_optim.engine.numerics import loops, norms
from tf_keras_optim.engine.tensorflow import distribution

_SKIPS = "max_consecutive_skips="  # stands in the sentence about too many skipped steps
_GROUPS = 8  # of gradients, looked at together; each is a branch to trace


@dataclasses.dataclass(frozen=True)
class ScalePolicy:
    """How a loss scale moves.

    Attributes:
      initial_scale: the scale at the start.
      growth_steps: good steps in a row after which the scale grows.
      growth_factor: what it is multiplied by then.
      backoff_factor: what it is multiplied by after bad steps.
      min_scale: it never falls below.
      max_scale: it never rises above.
      hysteresis: bad steps in a row that make it back off.
      dynamic: whether it moves at all.
      max_consecutive_skips: bad steps in a row after which to raise, or `None`.
    """

    initial_scale: float
    growth_steps: int
    growth_factor: float
    backoff_factor: float
    min_scale: float
    max_scale: float
    hysteresis: int
    dynamic: bool
    max_consecutive_skips: int | None


@dataclasses.dataclass(frozen=True)
class FiniteCheck:
    """What was found about the gradients of one step.

    Attributes:
      finite: 0-d bool tensor: all of them are.
      squares: what `norms.squares` returned for them, if that was asked for.
      inverse: factor that unscales them, float64, or `None`.
    """

    finite: tf.Tensor
    squares: tf.Tensor | None
    inverse: tf.Tensor | None


class LossScaler:
    """Counts skipped steps and moves the loss scale, if there is one.

    The gradients have been summed over the replicas, so every replica finds the same
    and moves its own copies of the variables in the same way; nothing here is a
    collective.

    Args:
      make: makes and publishes a state variable, from a name and a 0-d start value.
      policy: how the loss scale moves; `None` for no scale.
    """

    def __init__(
        self, make: Callable[[str, tf.Tensor], tf.Variable], policy: ScalePolicy | None
    ):
        self.policy = policy
        self.active = True
        self.limit: int | None = None  # of bad steps in a row
        self.skipped = make("skipped_steps", tf.zeros([], tf.int64))
        self.consecutive = make("consecutive_skips", tf.zeros([], tf.int64))
        self.scale: tf.Variable | None = None
        if policy is not None:
            self.scale = make("dynamic_scale", tf.constant(policy.initial_scale, tf.float32))
            self.good = make("step_counter", tf.zeros([], tf.int64))

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The state by name, in the order in which it is listed."""
        counters = {"skipped_steps": self.skipped, "consecutive_skips": self.consecutive}
        if self.scale is None:
            return counters
        return {"step_counter": self.good, "dynamic_scale": self.scale} | counters

    def examine(
        self, gradients: Sequence[tf.Tensor], scaled: bool, measured: bool
    ) -> FiniteCheck:
        """Finds out whether all gradients are finite, after unscaling.

        Args:
          gradients: the gradients, summed over the replicas.
          scaled: whether they still carry the loss scale.
          measured: whether their squares are needed anyway.
        """
        inverse = None
        if scaled and self.scale is not None:
            scale = distribution.local(self.scale).read_value()
            inverse = 1.0 / tf.cast(scale, tf.float64)
        if not gradients:
            return FiniteCheck(tf.constant(True), None, inverse)
        if not measured and distribution.in_xla():
            bad = [loops.total(_is_bad(gradient, inverse)) for gradient in gradients]
            return FiniteCheck(tf.equal(tf.add_n(bad), 0.0), None, inverse)
        # One pass without a temporary: a sum, or a norm, is finite only if its terms are.
        # Where it is not, each element is looked at, since sums and squares overflow too.
        squares = None
        if measured:
            squares = norms.squares(gradients)
            bounds = tf.sqrt(squares)
            passed = tf.cast(bounds if inverse is None else bounds * inverse, tf.float32)
        else:
            passed = tf.stack([tf.cast(loops.total(g), tf.float32) for g in gradients])
        passed = tf.math.is_finite(passed)
        if inverse is not None and not measured:
            passed = tf.logical_and(passed, inverse <= 1.0)
        return FiniteCheck(_all_finite(gradients, inverse, passed), squares, inverse)

    def passed(self) -> None:
        """Takes a good step into account."""
        distribution.local(self.consecutive).assign(tf.zeros([], tf.int64))
        policy = self.policy
        if self.scale is None or policy is None or not policy.dynamic:
            return
        scale, good = distribution.local(self.scale), distribution.local(self.good)
        count = good.read_value() + 1
        grows = count >= policy.growth_steps
        larger = tf.minimum(scale.read_value() * policy.growth_factor, policy.max_scale)
        scale.assign(tf.where(grows, larger, scale.read_value()))
        good.assign(tf.where(grows, tf.zeros_like(count), count))

    def skip(
        self, gradients: Sequence[tf.Tensor], paths: Sequence[str], inverse: tf.Tensor | None
    ) -> None:
        """Takes a bad step into account; raises if there were too many in a row.

        Args:
          gradients: as for `examine`.
          paths: the path of each variable.
          inverse: as in the verdict.
        """
        distribution.local(self.skipped).assign_add(1)
        count = distribution.local(self.consecutive).assign_add(1)
        policy = self.policy
        if self.scale is not None and policy is not None and policy.dynamic:
            scale = distribution.local(self.scale)
            backs_off = tf.equal(count % policy.hysteresis, 0)
            smaller = tf.maximum(scale.read_value() * policy.backoff_factor, policy.min_scale)
            scale.assign(tf.where(backs_off, smaller, scale.read_value()))
            distribution.local(self.good).assign(tf.zeros([], tf.int64))
        if self.limit is not None:
            bad = tf.logical_not(_finite_by_variable(gradients, inverse))
            names = tf.boolean_mask(tf.constant(list(paths)), bad)
            tf.debugging.Assert(
                count < self.limit,
                [
                    "The gradients were not finite in so many steps in a row (limit "
                    f"{_SKIPS}{self.limit}):",
                    count,
                    "Variables of the last one:",
                    names,
                    "Lower the learning rate, or look for the first operation that gives "
                    "NaN or inf with tf.debugging.enable_check_numerics().",
                ],
                summarize=20,
            )


def _all_finite(
    gradients: Sequence[tf.Tensor], inverse: tf.Tensor | None, passed: tf.Tensor
) -> tf.Tensor:
    """Looks at the elements of groups of gradients of which not all have passed."""
    count = len(gradients)
    size = max(1, -(-count // _GROUPS))

    def look() -> tf.Tensor:
        found = []
        for begin in range(0, count, size):
            group = gradients[begin : begin + size]
            found.append(
                tf.cond(
                    tf.reduce_all(passed[begin : begin + size]),
                    lambda: tf.constant(True),
                    lambda group=group: tf.reduce_all(_finite_by_variable(group, inverse)),
                )
            )
        return tf.reduce_all(tf.stack(found))

    return tf.cond(tf.reduce_all(passed), lambda: tf.constant(True), look)


def _finite_by_variable(gradients: Sequence[tf.Tensor], inverse: tf.Tensor | None) -> tf.Tensor:
    """Returns for each gradient whether all its elements are finite, unscaled."""
    return tf.stack([tf.reduce_all(_is_finite(g, inverse)) for g in gradients])


def _is_finite(gradient: tf.Tensor, inverse: tf.Tensor | None) -> tf.Tensor:
    """Returns for each element whether it is finite, unscaled."""
    gradient = loops.widened(gradient)
    if inverse is not None:
        gradient = gradient * tf.cast(inverse, gradient.dtype)
    return tf.math.is_finite(gradient)


def _is_bad(gradient: tf.Tensor, inverse: tf.Tensor | None) -> tf.Tensor:
    """Returns 1.0 for each element that is not finite, unscaled, and 0.0 for the others."""
    return tf.cast(tf.logical_not(_is_finite(gradient, inverse)), tf.float32)


def not_finite(gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> tf.Tensor:
    """Returns whether any element of any gradient is NaN or infinite, a 0-d bool."""
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    return tf.logical_not(tf.reduce_all(_finite_by_variable(values, None)))


def too_many_skips(
    error: tf.errors.InvalidArgumentError,
) -> tf.errors.InvalidArgumentError | None:
    """Returns the error of too many skipped steps in a row with its sentence first.

    Args:
      error: what a step raised; TensorFlow puts the places of all operations first.

    Returns:
      The error to raise instead, or `None` if it is another one.
    """
    lines = [line for line in error.message.splitlines() if _SKIPS in line]
    if not lines:
        return None
    sentence = lines[0].partition("assertion failed: ")[2] or lines[0]
    return tf.errors.InvalidArgumentError(error.node_def, error.op, sentence)
