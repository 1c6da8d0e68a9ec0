"""The optimizers. Written by tools/stubs.py."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, SupportsFloat, SupportsIndex, TypeAlias

from tf_keras_optim.optimizers import records as records
from tf_keras_optim.optimizers.base import Optimizer as Optimizer

_Number: TypeAlias = SupportsFloat
_Integer: TypeAlias = SupportsIndex
_Schedule: TypeAlias = Callable[..., Any]


class ADOPT(Optimizer):
    """ADOPT.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the mean of normalized gradients, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: what a gradient is divided by at least, at least 0.
      clip_power: power of the number of updates so far that limits a normalized gradient, at
        least 0; `None` for no limit, as in the first version of the paper. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    clip_power: float | None

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.9999,
        epsilon: _Number = 1e-06,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        clip_power: _Number | None = 0.25,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class AdEMAMix(Optimizer):
    """AdEMAMix.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the fast mean, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      beta_3: decay of the slow mean, in [0, 1), or a schedule.
      alpha: weight of the slow mean, at least 0, or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      warmup_steps: number of updates over which `alpha` and the decay of the slow mean grow, or
        `None`, at least 1.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    beta_3: Any
    alpha: Any
    epsilon: float
    warmup_steps: int | None

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        beta_3: _Number | _Schedule = 0.9999,
        alpha: _Number | _Schedule = 5.0,
        epsilon: _Number = 1e-08,
        warmup_steps: _Integer | None = None,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class AdaBelief(Optimizer):
    """AdaBelief.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the variance, in [0, 1).
      epsilon: small constant, in every step added to the variance too, at least 0.
      rectify: rectify young steps, as RAdam. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: float
    epsilon: float
    rectify: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number = 0.999,
        epsilon: _Number = 1e-16,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        rectify: bool = False,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Adadelta(Optimizer):
    """Adadelta.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      rho: decay of the averages, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      others: as for every optimizer; see `Optimizer`.
    """

    rho: Any
    epsilon: float

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        rho: _Number | _Schedule = 0.95,
        epsilon: _Number = 1e-07,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Adafactor(Optimizer):
    """Adafactor.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_2_decay: power of the step by which the second moment decays, below 0.
      epsilon_1: constant added to squared gradients, at least 0.
      epsilon_2: smallest size of a variable that the step is scaled to, at least 0.
      clip_threshold: largest root mean square of the step before the rate, above 0.
      relative_step: lower the rate to at most `1 / sqrt(t)`.
      scale_parameter: scale the step to the root mean square of the variable. Keyword-only.
      beta_1: decay of a mean of the steps, or `None` for no mean, in [0, 1), or a schedule.
        Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_2_decay: float
    epsilon_1: float
    epsilon_2: float
    clip_threshold: float
    relative_step: bool
    scale_parameter: bool
    beta_1: Any

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_2_decay: _Number = -0.8,
        epsilon_1: _Number = 1e-30,
        epsilon_2: _Number = 0.001,
        clip_threshold: _Number = 1.0,
        relative_step: bool = True,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        scale_parameter: bool = True,
        beta_1: _Number | _Schedule | None = None,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Adagrad(Optimizer):
    """Adagrad.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      initial_accumulator_value: what every accumulator starts from, at least 0.
      epsilon: small constant for numerical stability, at least 0.
      epsilon_inside_root: whether epsilon stands inside the root. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    initial_accumulator_value: float
    epsilon: float
    epsilon_inside_root: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        initial_accumulator_value: _Number = 0.1,
        epsilon: _Number = 1e-07,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        epsilon_inside_root: bool = True,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Adam(Optimizer):
    """Adam, optionally with AMSGrad or Nesterov's momentum.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      amsgrad: use the running maximum of the second moment.
      epsilon_after_correction: add epsilon after the bias correction. Keyword-only.
      nesterov: look ahead along the momentum. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    amsgrad: bool
    epsilon_after_correction: bool
    nesterov: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        epsilon: _Number = 1e-07,
        amsgrad: bool = False,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        epsilon_after_correction: bool = False,
        nesterov: bool = False,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Adamax(Optimizer):
    """Adamax.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the norm, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      epsilon_in_norm: add epsilon to the gradient's norm. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    epsilon_in_norm: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        epsilon: _Number = 1e-07,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        epsilon_in_norm: bool = False,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Adan(Optimizer):
    """Adan.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the mean of differences, in [0, 1), or a schedule.
      beta_3: decay of the mean of squares, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      proximal_decay: let weights decay by a quotient after the step, as in the paper.
        Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    beta_3: Any
    epsilon: float
    proximal_decay: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.98,
        beta_2: _Number | _Schedule = 0.92,
        beta_3: _Number | _Schedule = 0.99,
        epsilon: _Number = 1e-08,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        proximal_decay: bool = True,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class CAME(Optimizer):
    """CAME: confidence-guided, with the memory of Adafactor and a mean.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.0002.
      beta_1: decay of the mean of the steps, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      beta_3: decay of the mean of squared differences, in [0, 1), or a schedule.
      epsilon_1: constant added to squared gradients, at least 0.
      epsilon_2: constant added to those differences, at least 0.
      clip_threshold: largest root mean square of a step before its mean, above 0.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    beta_3: Any
    epsilon_1: float
    epsilon_2: float
    clip_threshold: float

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.0002,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        beta_3: _Number | _Schedule = 0.9999,
        epsilon_1: _Number = 1e-30,
        epsilon_2: _Number = 1e-16,
        clip_threshold: _Number = 1.0,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Ftrl(Optimizer):
    """FTRL-proximal, optionally with shrinkage.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      learning_rate_power: power of the accumulator, at most 0; 0 keeps the rate.
      initial_accumulator_value: what every accumulator starts from, at least 0.
      l1_regularization_strength: strength of the l1 penalty, at least 0.
      l2_regularization_strength: strength of the l2 penalty, at least 0.
      l2_shrinkage_regularization_strength: strength of an l2 penalty on the size of the weights
        (and not on the leader), at least 0.
      beta: the beta of the paper, at least 0.
      others: as for every optimizer; see `Optimizer`.
    """

    learning_rate_power: float
    initial_accumulator_value: float
    l1_regularization_strength: float
    l2_regularization_strength: float
    l2_shrinkage_regularization_strength: float
    beta: float

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        learning_rate_power: _Number = -0.5,
        initial_accumulator_value: _Number = 0.1,
        l1_regularization_strength: _Number = 0.0,
        l2_regularization_strength: _Number = 0.0,
        l2_shrinkage_regularization_strength: _Number = 0.0,
        beta: _Number = 0.0,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class LARS(Optimizer):
    """LARS: layer-wise adaptive rate scaling.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.01.
      momentum: how much of the last step is kept, in [0, 1], or a schedule.
      nesterov: look ahead along the momentum.
      trust_coefficient: length of a step at rate 1, as a fraction of the variable's, above 0.
      epsilon: constant added to the gradient's norm, at least 0.
      exclude_from_layer_adaptation: regular expressions, searched in a variable's path; those
        variables take the ratio 1 (biases and norms, often). Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    momentum: Any
    nesterov: bool
    trust_coefficient: float
    epsilon: float
    exclude_from_layer_adaptation: Any

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.01,
        momentum: _Number | _Schedule = 0.9,
        nesterov: bool = False,
        trust_coefficient: _Number = 0.001,
        epsilon: _Number = 0.0,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        exclude_from_layer_adaptation: Sequence[str] = [],
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Lamb(Optimizer):
    """LAMB.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      decay_in_trust_ratio: add the decay to the direction, so that the ratio scales it too, as
        the paper has it. Keyword-only.
      exclude_from_layer_adaptation: regular expressions, searched in a variable's path; those
        variables take the ratio 1 (biases and norms, often). Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    decay_in_trust_ratio: bool
    exclude_from_layer_adaptation: Any

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        epsilon: _Number = 1e-07,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        decay_in_trust_ratio: bool = False,
        exclude_from_layer_adaptation: Sequence[str] = [],
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Lion(Optimizer):
    """Lion.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: share of the momentum in the direction of a step, in [0, 1), or a schedule.
      beta_2: decay of the momentum, in [0, 1), or a schedule.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.99,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class MARS(Optimizer):
    """MARS, with AdamW for vectors.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.003.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      gamma: strength of the correction; 0 for none, at least 0. Keyword-only.
      adam_beta_1: decay of the first moment of vectors, in [0, 1), or a schedule. Keyword-only.
      adam_beta_2: decay of the second moment of vectors, in [0, 1), or a schedule.
        Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    gamma: float
    adam_beta_1: Any
    adam_beta_2: Any

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.003,
        beta_1: _Number | _Schedule = 0.95,
        beta_2: _Number | _Schedule = 0.99,
        epsilon: _Number = 1e-08,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        gamma: _Number = 0.025,
        adam_beta_1: _Number | _Schedule = 0.9,
        adam_beta_2: _Number | _Schedule = 0.95,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Nadam(Optimizer):
    """Nadam.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      momentum_decay: how fast mu grows to beta_1, at least 0; 1 as in Keras. The paper and
        PyTorch have 0.004. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    momentum_decay: float

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        epsilon: _Number = 1e-07,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        momentum_decay: _Number = 1.0,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class RAdam(Optimizer):
    """Rectified Adam.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1).
      epsilon: small constant for numerical stability, at least 0.
      threshold: length of the average in `v` (rho) that a rectified step needs more of; 5 as in
        PyTorch, at least 4, as in the paper. Keyword-only.
      epsilon_after_correction: add epsilon after the bias correction of `v`, or else before it,
        as PyTorch. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: float
    epsilon: float
    threshold: float
    epsilon_after_correction: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number = 0.999,
        epsilon: _Number = 1e-07,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        threshold: _Number = 5.0,
        epsilon_after_correction: bool = True,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class RMSprop(Optimizer):
    """RMSprop, optionally centered and with momentum.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      rho: decay of the averages, in [0, 1), or a schedule.
      momentum: how much of the last step is kept, in [0, 1], or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      centered: divide by the deviation of the gradient instead of its root mean square.
      epsilon_inside_root: whether epsilon stands inside the root. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    rho: Any
    momentum: Any
    epsilon: float
    centered: bool
    epsilon_inside_root: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        rho: _Number | _Schedule = 0.9,
        momentum: _Number | _Schedule = 0.0,
        epsilon: _Number = 1e-07,
        centered: bool = False,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        epsilon_inside_root: bool = True,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class SGD(Optimizer):
    """Gradient descent, optionally with (Nesterov) momentum.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.01.
      momentum: how much of the last step is kept, in [0, 1], or a schedule.
      nesterov: look ahead along the momentum. Without momentum it has no effect.
      others: as for every optimizer; see `Optimizer`.
    """

    momentum: Any
    nesterov: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.01,
        momentum: _Number | _Schedule = 0.0,
        nesterov: bool = False,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Yogi(Optimizer):
    """Yogi.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.01.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      initial_accumulator_value: what the second moment starts from, at least 0.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    initial_accumulator_value: float

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.01,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        epsilon: _Number = 0.001,
        initial_accumulator_value: _Number = 1e-06,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class AdamW(Adam):
    """Adam with decoupled weight decay.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      weight_decay: fraction of each weight that a step at learning rate 1 removes, or a
        schedule; 0.004 by default. `None` is refused: that is `Adam`.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      amsgrad: use the running maximum of the second moment.
      epsilon_after_correction: add epsilon after the bias correction. Keyword-only.
      nesterov: look ahead along the momentum. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    weight_decay: Any
    beta_1: Any
    beta_2: Any
    epsilon: float
    amsgrad: bool
    epsilon_after_correction: bool
    nesterov: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        weight_decay: _Number | _Schedule = 0.004,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        epsilon: _Number = 1e-07,
        amsgrad: bool = False,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        epsilon_after_correction: bool = False,
        nesterov: bool = False,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Muon(Optimizer):
    """Muon, with AdamW for what is no hidden kernel.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      adam_beta_1: AdamW's decay of the first moment, in [0, 1), or a schedule.
      adam_beta_2: AdamW's decay of the second moment, in [0, 1), or a schedule.
      adam_weight_decay: as `weight_decay`, for the variables that AdamW moves.
      epsilon: AdamW's small constant for numerical stability, at least 0.
      weight_decay: fraction of a matrix that a step at rate 1 takes away before the update, a
        schedule of it, or `None`; 0.004 by default.
      exclude_layers: regular expressions, searched in a variable's path: AdamW moves those
        variables. Keyword-only.
      exclude_embeddings: AdamW moves the tables of embeddings. Keyword-only.
      muon_a: first coefficient of the polynomial. Keyword-only.
      muon_b: second coefficient. Keyword-only.
      muon_c: third coefficient. Keyword-only.
      adam_lr_ratio: factor on AdamW's learning rate, not on its decay, at least 0.
        Keyword-only.
      momentum: decay of the sum of gradients, in [0, 1), or a schedule. Keyword-only.
      ns_steps: how often the polynomial is applied, at least 0. Keyword-only.
      nesterov: look ahead along the momentum. Keyword-only.
      rms_rate: root mean square of an element of a step at rate 1, or `None` for no factor at
        all. Keyword-only.
      matrices: which variables are matrices: "all" with two axes or more, as named above, or
        "rank_2": Keras' choice, those of two axes, biases too, whose path has no "embedding" in
        it. Keyword-only.
      output: AdamW moves the last kernel of the model ("last"), the head usually, or not
        (None): for models without a head, or with one that shares its weights with embeddings.
        Keyword-only.
      polynomial: in place of `muon_a` to `muon_c` and `ns_steps`: "jordan", which are their
        defaults, "polar" (Polar Express, whose singular values end nearer to 1), or a list of
        triples (a, b, c), applied one after the other. Keyword-only.
      scale: what a step is scaled to: "rms", each element as large as with AdamW; "spectral", a
        step whose effect on the outputs does not depend on the sizes, for rates of about 0.02.
        Keyword-only.
      input_axes: dict from regular expressions, searched in a variable's path, to the number of
        axes that are inputs, the rows of the matrix: the first n, after those of `batch_axes`,
        or, where it is negative, the last n. It counts more than names do. Keyword-only.
      batch_axes: dict as `input_axes`, to the number of leading axes that number matrices, as
        in banks of experts. Keyword-only.
      per_head: a matrix for each head of an attention kernel. Keyword-only.
      normalize: "neurons": divide each output of a step by the root of its running mean square
        (NorMuon); by default not. Keyword-only.
      neuron_beta: decay of that mean square, in [0, 1). Keyword-only.
      compute_dtype: dtype of the products: "float32", "bfloat16", or "auto": bfloat16 where the
        variable's device multiplies it faster (GPUs of capability 8.0 or more, TPUs). float64
        variables compute in float64. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    adam_beta_1: Any
    adam_beta_2: Any
    adam_weight_decay: Any
    epsilon: float
    weight_decay: Any
    exclude_layers: Any
    exclude_embeddings: bool
    muon_a: float
    muon_b: float
    muon_c: float
    adam_lr_ratio: float
    momentum: Any
    ns_steps: int
    nesterov: bool
    rms_rate: float | None
    matrices: Any
    output: Any
    polynomial: Any
    scale: Any
    input_axes: Any
    batch_axes: Any
    per_head: bool
    normalize: Any
    neuron_beta: float
    compute_dtype: Any

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        adam_beta_1: _Number | _Schedule = 0.9,
        adam_beta_2: _Number | _Schedule = 0.999,
        adam_weight_decay: _Number | _Schedule | None = 0.004,
        epsilon: _Number = 1e-07,
        weight_decay: _Number | _Schedule | None = 0.004,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        exclude_layers: Sequence[str] | None = [],
        exclude_embeddings: bool = True,
        muon_a: _Number = 3.4445,
        muon_b: _Number = -4.775,
        muon_c: _Number = 2.0315,
        adam_lr_ratio: _Number = 1.0,
        momentum: _Number | _Schedule = 0.95,
        ns_steps: _Integer = 5,
        nesterov: bool = True,
        rms_rate: _Number | None = 0.2,
        matrices: Literal["all", "rank_2"] = "all",
        output: Literal["last"] | None = "last",
        polynomial: str | Sequence[Sequence[_Number]] | None = None,
        scale: Literal["rms", "spectral"] = "rms",
        input_axes: Mapping[str, _Integer] = {},
        batch_axes: Mapping[str, _Integer] = {},
        per_head: bool = False,
        normalize: Literal["neurons"] | None = None,
        neuron_beta: _Number = 0.95,
        compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class PSGLD(Optimizer):
    """Preconditioned stochastic gradient Langevin dynamics.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.01.
      data_size: number of examples whose mean the loss is; 1 where it is the sum over all,
        above 0.
      temperature: temperature of the distribution; 1 samples the posterior, below it is cold,
        and at 0 there is no noise, at least 0, or a schedule.
      burn_in: number of updates without noise at the start, at least 0. Keyword-only.
      seed: integer that, with the variable's place among all variables and the number of the
        update, decides the noise; the same on all replicas. Keyword-only.
      rho: decay of the mean of squares, in [0, 1), or a schedule. Keyword-only.
      epsilon: what is added to the root of that mean, at least 0. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    data_size: float
    temperature: Any
    burn_in: int
    seed: int
    rho: Any
    epsilon: float

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.01,
        data_size: _Number = 1.0,
        temperature: _Number | _Schedule = 1.0,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        burn_in: _Integer = 0,
        seed: _Integer = 0,
        rho: _Number | _Schedule = 0.99,
        epsilon: _Number = 1e-05,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Prodigy(Optimizer):
    """Prodigy: AdamW whose learning rate grows with an estimate d of the distance to go.

    Args:
      learning_rate: factor on the rate that is found: number, 0-d tensor, schedule, or
        callable; default 1.0. A decay to 0 over the run (cosine) is recommended.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, times d, at least 0.
      weight_decay: decoupled weight decay per step, a schedule of it, or `None`. Each weight
        loses the fraction `weight_decay * rate`, d and the correction included.
      beta_3: decay of the sums that d goes by, or `None` for the root of `beta_2`, in [0, 1),
        or a schedule. Keyword-only.
      initial_d: d before the first update; 1e-5 or 1e-4 where d does not begin to grow within a
        few hundred updates, or the run is that short, above 0. Keyword-only.
      d_coefficient: factor on the estimate of d; try 0.5 or 2, above 0. Keyword-only.
      growth_rate: largest factor by which d may grow in an update once it has left `initial_d`,
        or `None` for no limit, at least 1. Keyword-only.
      use_bias_correction: correct both moments as Adam does. Keyword-only.
      safeguard_warmup: leave the learning rate out of the sum s, so that a warm-up does not
        weigh in the estimate. Keyword-only.
      every_nth: let only each so many elements of a variable count for d, at least 1.
        Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    weight_decay: Any
    beta_3: Any
    initial_d: float
    d_coefficient: float
    growth_rate: float | None
    use_bias_correction: bool
    safeguard_warmup: bool
    every_nth: int

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 1.0,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        epsilon: _Number = 1e-08,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        beta_3: _Number | _Schedule | None = None,
        initial_d: _Number = 1e-06,
        d_coefficient: _Number = 1.0,
        growth_rate: _Number | None = None,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        every_nth: _Integer = 1,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class SGHMC(Optimizer):
    """Stochastic gradient Hamiltonian Monte Carlo.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.01.
      data_size: number of examples whose mean the loss is; 1 where it is the sum over all,
        above 0.
      temperature: temperature of the distribution; 1 samples the posterior, below it is cold,
        and at 0 there is no noise, at least 0, or a schedule.
      burn_in: number of updates without noise at the start, at least 0. Keyword-only.
      seed: integer that, with the variable's place among all variables and the number of the
        update, decides the noise; the same on all replicas. Keyword-only.
      momentum: how much of the last step is kept, in [0, 1), or a schedule. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    data_size: float
    temperature: Any
    burn_in: int
    seed: int
    momentum: Any

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.01,
        data_size: _Number = 1.0,
        temperature: _Number | _Schedule = 1.0,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        burn_in: _Integer = 0,
        seed: _Integer = 0,
        momentum: _Number | _Schedule = 0.9,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class SGLD(Optimizer):
    """Stochastic gradient Langevin dynamics.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.01.
      data_size: number of examples whose mean the loss is; 1 where it is the sum over all,
        above 0.
      temperature: temperature of the distribution; 1 samples the posterior, below it is cold,
        and at 0 there is no noise, at least 0, or a schedule.
      burn_in: number of updates without noise at the start, at least 0. Keyword-only.
      seed: integer that, with the variable's place among all variables and the number of the
        update, decides the noise; the same on all replicas. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    data_size: float
    temperature: Any
    burn_in: int
    seed: int

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.01,
        data_size: _Number = 1.0,
        temperature: _Number | _Schedule = 1.0,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        burn_in: _Integer = 0,
        seed: _Integer = 0,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class ScheduleFreeAdamW(Optimizer):
    """Schedule-Free AdamW: a constant rate, and a mean of the weights for evaluation.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.0025.
      beta_1: share of the mean in the weights that are trained, above 0; 0.95 to 0.98 for long
        runs.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      warmup_steps: updates over which the rate grows linearly from 0; about 5 % of a run.
      averaging_power: power of the number of the update in its weight in the mean, at least 0.
        Keyword-only.
      rate_power: power of the largest rate so far in that weight, at least 0. Keyword-only.
      rectify: multiply the rate with RAdam's factor, which is 0 in the first updates, in place
        of the warm-up. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: float
    beta_2: Any
    epsilon: float
    warmup_steps: int
    averaging_power: float
    rate_power: float
    rectify: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.0025,
        beta_1: _Number = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        epsilon: _Number = 1e-08,
        warmup_steps: _Integer = 0,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        averaging_power: _Number = 0.0,
        rate_power: _Number = 2.0,
        rectify: bool = False,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class ScheduleFreeSGD(Optimizer):
    """Schedule-Free SGD: a constant rate, and a mean of the weights for evaluation.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 1.0.
      momentum: share of the mean in the weights that are trained, above 0, at most 1 and above
        0.
      warmup_steps: updates over which the rate grows linearly from 0; about 5 % of a run.
      averaging_power: power of the number of the update in its weight in the mean, at least 0.
        Keyword-only.
      rate_power: power of the largest rate so far in that weight, at least 0. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    momentum: float
    warmup_steps: int
    averaging_power: float
    rate_power: float

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 1.0,
        momentum: _Number = 0.9,
        warmup_steps: _Integer = 0,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        averaging_power: _Number = 0.0,
        rate_power: _Number = 2.0,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Shampoo(Optimizer):
    """Shampoo, whose steps have the lengths of another algorithm's.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.001.
      beta_1: decay of the mean of gradients, in [0, 1), or a schedule.
      beta_2: decay of the means of squares and products of gradients, in [0, 1), or a schedule.
      epsilon: what is added to a factor before its root, as a share of its largest eigenvalue,
        at least 0.
      every: after how many updates the roots are computed anew, at least 1. Keyword-only.
      start: the update, from 1, after which they are computed first, the next multiple of
        `every`; or `None` for `every`, at least 1. Keyword-only.
      block: the largest side of the blocks that a matrix is cut into, at least 1. Keyword-only.
      grafting: whose length a step has: "adam", "rmsprop" (without a correction of the second
        moment), "sgd", or `None` for its own. Keyword-only.
      grafting_epsilon: small constant for numerical stability, of that step, at least 0.
        Keyword-only.
      root: which root of the factors: 4, or 2. Keyword-only.
      nesterov: look ahead along the mean. Keyword-only.
      adam_for: regular expressions, searched in a variable's path: those variables are no
        matrices. Keyword-only.
      input_axes: dict from regular expressions, searched in a variable's path, to the number of
        axes that are inputs, the rows of the matrix: the first n, after those of `batch_axes`,
        or, where it is negative, the last n. It counts more than names do. Keyword-only.
      batch_axes: dict as `input_axes`, to the number of leading axes that number matrices, as
        in banks of experts. Keyword-only.
      refresh_spread: compute the roots of different variables after different updates, from the
        second time on, so that no step takes much longer than the others. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    every: int
    start: int | None
    block: int
    grafting: Any
    grafting_epsilon: float
    root: Any
    nesterov: bool
    adam_for: Any
    input_axes: Any
    batch_axes: Any
    refresh_spread: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.001,
        beta_1: _Number | _Schedule = 0.9,
        beta_2: _Number | _Schedule = 0.999,
        epsilon: _Number = 1e-06,
        weight_decay: _Number | _Schedule | None = None,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        every: _Integer = 20,
        start: _Integer | None = None,
        block: _Integer = 1024,
        grafting: Literal["adam", "rmsprop", "sgd"] | None = "adam",
        grafting_epsilon: _Number = 1e-08,
        root: Literal[4, 2] = 4,
        nesterov: bool = False,
        adam_for: Sequence[str] | None = [],
        input_axes: Mapping[str, _Integer] = {},
        batch_axes: Mapping[str, _Integer] = {},
        refresh_spread: bool = False,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


class Soap(Optimizer):
    """SOAP, with AdamW for what is no matrix.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable; default 0.003.
      beta_1: decay of the first moment, in [0, 1), or a schedule.
      beta_2: decay of the second moment, in [0, 1), or a schedule.
      epsilon: small constant for numerical stability, at least 0.
      weight_decay: fraction of a weight that a step at rate 1 takes away before the update, a
        schedule of it, or `None`; 0.01 by default.
      shampoo_beta: decay of what the bases are computed from, or `None` for `beta_2`, in [0,
        1). Keyword-only.
      every: after how many updates the bases are computed anew, at least 1. Keyword-only.
      largest_side: the longest side that has a basis, at least 1. Keyword-only.
      sides: which sides of a matrix have a basis: "both", or "shorter": the shorter one alone,
        the rows of a square one. Keyword-only.
      start: how it begins: "adam", with the axes as bases for `every` updates; or "skip", as
        published: the first update moves and decays nothing, and gives the first bases.
        Keyword-only.
      adam_for: regular expressions, searched in a variable's path: AdamW moves those variables.
        Keyword-only.
      input_axes: dict from regular expressions, searched in a variable's path, to the number of
        axes that are inputs, the rows of the matrix: the first n, after those of `batch_axes`,
        or, where it is negative, the last n. It counts more than names do. Keyword-only.
      batch_axes: dict as `input_axes`, to the number of leading axes that number matrices, as
        in banks of experts. Keyword-only.
      refresh_spread: compute the bases of different variables after different updates, from the
        second time on, so that no step takes much longer than the others. Keyword-only.
      others: as for every optimizer; see `Optimizer`.
    """

    beta_1: Any
    beta_2: Any
    epsilon: float
    weight_decay: Any
    shampoo_beta: float | None
    every: int
    largest_side: int
    sides: Any
    start: Any
    adam_for: Any
    input_axes: Any
    batch_axes: Any
    refresh_spread: bool

    def __init__(
        self,
        learning_rate: _Number | _Schedule = 0.003,
        beta_1: _Number | _Schedule = 0.95,
        beta_2: _Number | _Schedule = 0.95,
        epsilon: _Number = 1e-08,
        weight_decay: _Number | _Schedule | None = 0.01,
        clipnorm: _Number | None = None,
        clipvalue: _Number | None = None,
        global_clipnorm: _Number | None = None,
        use_ema: bool = False,
        ema_momentum: _Number = 0.99,
        ema_overwrite_frequency: _Integer | None = None,
        *,
        shampoo_beta: _Number | None = None,
        every: _Integer = 10,
        largest_side: _Integer = 2048,
        sides: Literal["both", "shorter"] = "both",
        start: Literal["adam", "skip"] = "adam",
        adam_for: Sequence[str] | None = [],
        input_axes: Mapping[str, _Integer] = {},
        batch_axes: Mapping[str, _Integer] = {},
        refresh_spread: bool = False,
        decoupled_weight_decay: bool = True,
        cautious_weight_decay: bool = False,
        cautious: bool = False,
        centralize_gradients: bool = False,
        lookahead_steps: _Integer | None = None,
        lookahead_share: _Number = 0.5,
        averaging: Literal["ema", "equal"] = "ema",
        averaging_start: _Integer = 0,
        averaging_period: _Integer = 1,
        ema_warmup: bool = False,
        loss_scale_factor: _Number | None = None,
        gradient_accumulation_steps: _Integer | None = None,
        sparse: Literal["exact", "lazy"] | Mapping[str, Literal["exact", "lazy"]] = "exact",
        master_weights: Literal["auto", True, False] = "auto",
        slot_dtype: Literal["float32", "bfloat16", "int8"] | Mapping[str, Literal["float32", "bfloat16", "int8"]] | None = None,
        stochastic_rounding: bool = False,
        rounding_seed: _Integer = 0,
        aggregation_dtype: Literal["bfloat16", "float16"] | None = None,
        gradient_reducer: Callable[[list[Any]], list[Any]] | None = None,
        skip_nonfinite: bool = False,
        max_consecutive_skips: _Integer | None = None,
        groups: Mapping[str, Any] | None = None,
        shard_slots: bool = False,
        jit_compile: Literal["auto", True, False] = "auto",
        name: str | None = None,
    ) -> None: ...


__all__ = [
    "ADOPT",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "CAME",
    "Ftrl",
    "LARS",
    "Lamb",
    "Lion",
    "MARS",
    "Muon",
    "Nadam",
    "Optimizer",
    "PSGLD",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "SGD",
    "SGHMC",
    "SGLD",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Shampoo",
    "Soap",
    "Yogi",
]
