"""Learning-rate schedules. Written by tools/stubs.py."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, SupportsFloat, SupportsIndex, TypeAlias

from tf_keras_optim.schedules.base import Schedule as Schedule
from tf_keras_optim.schedules.base import deserialize as deserialize

_Number: TypeAlias = SupportsFloat
_Integer: TypeAlias = SupportsIndex
_Schedule: TypeAlias = Callable[..., Any]


class CosineDecay(Schedule):
    """Falls along a half cosine to a fraction of its start, after an optional linear warmup.

    Args:
      initial_learning_rate: the rate at step 0.
      decay_steps: number of steps of the decay, without the warmup.
      alpha: the last rate, as a fraction of the largest one.
      name: kept in the configuration.
      warmup_target: the rate at the end of the warmup, or `None` for no warmup.
      warmup_steps: number of steps of the warmup, at least 0. Not used without `warmup_target`.
    """

    initial_learning_rate: float
    decay_steps: float
    alpha: float
    name: str | None
    warmup_target: float | None
    warmup_steps: float

    def __init__(
        self,
        initial_learning_rate: _Number,
        decay_steps: _Number,
        alpha: _Number = 0.0,
        name: str | None = "CosineDecay",
        warmup_target: _Number | None = None,
        warmup_steps: _Number = 0.0,
    ) -> None: ...


class CosineDecayRestarts(Schedule):
    """Falls along half cosines, one after another; each may be longer and lower than the last.

    Args:
      initial_learning_rate: the rate at step 0.
      first_decay_steps: number of steps of the first piece.
      t_mul: factor from the length of one piece to that of the next, at least 1.
      m_mul: factor from the height of one piece to that of the next, at least 0.
      alpha: the lowest rate, as a fraction of the initial one.
      name: kept in the configuration.
    """

    initial_learning_rate: float
    first_decay_steps: float
    t_mul: float
    m_mul: float
    alpha: float
    name: str | None

    def __init__(
        self,
        initial_learning_rate: _Number,
        first_decay_steps: _Number,
        t_mul: _Number = 2.0,
        m_mul: _Number = 1.0,
        alpha: _Number = 0.0,
        name: str | None = "SGDRDecay",
    ) -> None: ...


class Cyclical(Schedule):
    """Rises and falls linearly between two rates, repeatedly.

    Args:
      initial_learning_rate: the lower rate, at step 0.
      maximal_learning_rate: the upper rate, at step `step_size`.
      step_size: number of steps of half a cycle, at least 1.
      mode: "triangular" (every cycle alike), "triangular2" (the height is halved with each
        cycle) or "exponential" (the height is multiplied by `gamma` with each step).
      gamma: factor of the mode "exponential", in (0, 1].
      name: kept in the configuration.
    """

    initial_learning_rate: float
    maximal_learning_rate: float
    step_size: int
    mode: Any
    gamma: float
    name: str | None

    def __init__(
        self,
        initial_learning_rate: _Number,
        maximal_learning_rate: _Number,
        step_size: _Integer,
        mode: Literal["triangular", "triangular2", "exponential"] = "triangular",
        gamma: _Number = 1.0,
        name: str | None = "Cyclical",
    ) -> None: ...


class ExponentialDecay(Schedule):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`.

    Args:
      initial_learning_rate: the rate at step 0.
      decay_steps: number of steps in which the rate is multiplied by `decay_rate` once.
      decay_rate: the factor, at least 0.
      staircase: round `step / decay_steps` down.
      name: kept in the configuration.
    """

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool
    name: str | None

    def __init__(
        self,
        initial_learning_rate: _Number,
        decay_steps: _Number,
        decay_rate: _Number,
        staircase: bool = False,
        name: str | None = "ExponentialDecay",
    ) -> None: ...


class InverseSqrt(Schedule):
    """Rises linearly, then falls with the inverse square root of the step.

    Args:
      learning_rate: the largest rate, reached at step `warmup_steps`.
      warmup_steps: number of steps of the warmup, at least 1.
      initial_learning_rate: the rate at step 0.
      name: kept in the configuration.
    """

    learning_rate: float
    warmup_steps: int
    initial_learning_rate: float
    name: str | None

    def __init__(
        self,
        learning_rate: _Number,
        warmup_steps: _Integer,
        initial_learning_rate: _Number = 0.0,
        name: str | None = "InverseSqrt",
    ) -> None: ...


class InverseTimeDecay(Schedule):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`.

    Args:
      initial_learning_rate: the rate at step 0.
      decay_steps: number of steps in which the denominator grows by `decay_rate`.
      decay_rate: growth of the denominator, at least 0.
      staircase: round `step / decay_steps` down.
      name: kept in the configuration.
    """

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool
    name: str | None

    def __init__(
        self,
        initial_learning_rate: _Number,
        decay_steps: _Number,
        decay_rate: _Number,
        staircase: bool = False,
        name: str | None = "InverseTimeDecay",
    ) -> None: ...


class Join(Schedule):
    """Runs one schedule after another; each counts steps from its own start.

    Args:
      schedules: schedules, or numbers for constant pieces; one more than `boundaries`.
      boundaries: increasing step numbers; `schedules[i + 1]` begins at step `boundaries[i]`.
      name: kept in the configuration.
    """

    schedules: Any
    boundaries: Any
    name: str | None

    def __init__(
        self,
        schedules: Sequence[_Number | _Schedule],
        boundaries: Sequence[_Number],
        name: str | None = "Join",
    ) -> None: ...


class OneCycle(Schedule):
    """Rises along a half cosine to a maximum and falls along another to almost 0, once.

    Args:
      max_learning_rate: the largest rate.
      total_steps: number of steps of the cycle, at least 2.
      warmup_fraction: fraction of them in which the rate rises, in (0, 1).
      initial_divisor: `max_learning_rate` divided by the rate at step 0.
      final_divisor: the rate at step 0 divided by the last rate.
      name: kept in the configuration.
    """

    max_learning_rate: float
    total_steps: int
    warmup_fraction: float
    initial_divisor: float
    final_divisor: float
    name: str | None

    def __init__(
        self,
        max_learning_rate: _Number,
        total_steps: _Integer,
        warmup_fraction: _Number = 0.3,
        initial_divisor: _Number = 25.0,
        final_divisor: _Number = 10000.0,
        name: str | None = "OneCycle",
    ) -> None: ...


class PiecewiseConstantDecay(Schedule):
    """Is constant in pieces: `values[0]` up to and including step `boundaries[0]`, and so on.

    Args:
      boundaries: increasing step numbers, one fewer than `values`.
      values: the rate of each piece.
      name: kept in the configuration.
    """

    boundaries: Any
    values: Any
    name: str | None

    def __init__(
        self,
        boundaries: Sequence[_Number],
        values: Sequence[_Number],
        name: str | None = "PiecewiseConstant",
    ) -> None: ...


class PolynomialDecay(Schedule):
    """Falls to `end_learning_rate` along a power of the remaining fraction of the steps.

    Args:
      initial_learning_rate: the rate at step 0.
      decay_steps: number of steps until the end is reached.
      end_learning_rate: the rate after that.
      power: the exponent, at least 0; 1 is a straight line.
      cycle: start over at the end, each time with the next multiple of `decay_steps` as the
        length, instead of staying there.
      name: kept in the configuration.
    """

    initial_learning_rate: float
    decay_steps: float
    end_learning_rate: float
    power: float
    cycle: bool
    name: str | None

    def __init__(
        self,
        initial_learning_rate: _Number,
        decay_steps: _Number,
        end_learning_rate: _Number = 0.0001,
        power: _Number = 1.0,
        cycle: bool = False,
        name: str | None = "PolynomialDecay",
    ) -> None: ...


class Rex(Schedule):
    """Reflected exponential: falls slowly at first, and fast towards a known last step.

    Args:
      initial_learning_rate: the rate at step 0.
      decay_steps: number of steps until the rate is 0, at least 1.
      name: kept in the configuration.
    """

    initial_learning_rate: float
    decay_steps: int
    name: str | None

    def __init__(
        self,
        initial_learning_rate: _Number,
        decay_steps: _Integer,
        name: str | None = "Rex",
    ) -> None: ...


class Warmup(Schedule):
    """Rises linearly to the first value of a schedule, then follows it from its step 0.

    Args:
      schedule: the schedule, or number, after the warmup.
      steps: number of steps of the warmup, at least 1.
      initial_learning_rate: the rate at step 0.
      name: kept in the configuration.
    """

    schedule: Any
    steps: int
    initial_learning_rate: float
    name: str | None

    def __init__(
        self,
        schedule: _Number | _Schedule,
        steps: _Integer,
        initial_learning_rate: _Number = 0.0,
        name: str | None = "Warmup",
    ) -> None: ...


class WarmupStableDecay(Schedule):
    """Rises linearly, stays constant for most of the run, and falls at its end.

    Args:
      learning_rate: the constant rate.
      warmup_steps: number of steps until it is reached, at least 0.
      stable_steps: number of steps at the constant rate, at least 0.
      decay_steps: number of steps to `end_learning_rate`, at least 1.
      initial_learning_rate: the rate at step 0, where there is a warmup.
      end_learning_rate: the rate after the decay.
      decay: form of the decay: "linear", "cosine" or "sqrt" (one minus the square root of the
        fraction done).
      name: kept in the configuration.
    """

    learning_rate: float
    warmup_steps: int
    stable_steps: int
    decay_steps: int
    initial_learning_rate: float
    end_learning_rate: float
    decay: Any
    name: str | None

    def __init__(
        self,
        learning_rate: _Number,
        warmup_steps: _Integer,
        stable_steps: _Integer,
        decay_steps: _Integer,
        initial_learning_rate: _Number = 0.0,
        end_learning_rate: _Number = 0.0,
        decay: Literal["linear", "cosine", "sqrt"] = "linear",
        name: str | None = "WarmupStableDecay",
    ) -> None: ...


def serialize(learning_rate_schedule: Any) -> dict[str, Any]: ...


__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "Cyclical",
    "ExponentialDecay",
    "InverseSqrt",
    "InverseTimeDecay",
    "Join",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "Rex",
    "Schedule",
    "Warmup",
    "WarmupStableDecay",
    "deserialize",
    "serialize",
]
