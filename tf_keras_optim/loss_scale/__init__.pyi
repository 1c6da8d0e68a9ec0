"""Loss scaling for float16. Written by tools/stubs.py."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, SupportsFloat, SupportsIndex, TypeAlias

from tf_keras_optim.loss_scale.keras3 import LossScaleOptimizer as _Wrapper
from tf_keras_optim.optimizers.base import Optimizer

_Number: TypeAlias = SupportsFloat
_Integer: TypeAlias = SupportsIndex
_Schedule: TypeAlias = Callable[..., Any]


class LossScaleOptimizer(_Wrapper):
    """Scales the loss, so that small float16 gradients do not become zero.

    Args:
      initial_scale: the scale before the first step, above 0.
      dynamic_growth_steps: number of good steps in a row after which the scale grows.
      growth_factor: factor by which the scale grows, at least 1. Keyword-only.
      backoff_factor: factor by which the scale is multiplied after a skipped step, above 0 and
        below 1. Keyword-only.
      min_scale: lower bound of the scale. Keyword-only.
      max_scale: upper bound of the scale. Keyword-only.
      hysteresis: number of skipped steps in a row after which the scale backs off.
        Keyword-only.
      max_consecutive_skips: number of skipped steps in a row after which an error names the
        variables, or `None`. XLA drops such checks: a step inside a function with
        `jit_compile=True` only counts. Keyword-only.
      dynamic: False keeps the scale constant; steps are still skipped. Keyword-only.
    """

    initial_scale: float
    dynamic_growth_steps: int
    growth_factor: float
    backoff_factor: float
    min_scale: float
    max_scale: float
    hysteresis: int
    max_consecutive_skips: int | None
    dynamic: bool

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: _Number = 32768.0,
        dynamic_growth_steps: _Integer = 2000,
        *,
        growth_factor: _Number = 2.0,
        backoff_factor: _Number = 0.5,
        min_scale: _Number = 1.0,
        max_scale: _Number = 16777216.0,
        hysteresis: _Integer = 1,
        max_consecutive_skips: _Integer | None = None,
        dynamic: bool = True,
        name: str | None = None,
    ) -> None: ...


__all__ = [
    "LossScaleOptimizer",
]
