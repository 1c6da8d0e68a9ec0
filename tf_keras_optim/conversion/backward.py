"""The way back: an optimizer of the running Keras from one of this package."""

import warnings
from typing import Any

import numpy as np

import tf_keras_optim.conversion.foreign_private as foreign
import tf_keras_optim.conversion.parted as parted
import tf_keras_optim.conversion.positions as positions
from tf_keras_optim.engine.state import named_state
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers.records import InKeras, keras_form, records

_GENERATION = 2 if keras.__name__.startswith("tf_keras") else 3
# Options of every optimizer whose other values Keras has no counterpart for.
_ONLY = {
    "decoupled_weight_decay": True,
    "cautious_weight_decay": False,
    "cautious": False,
    "centralize_gradients": False,
    "lookahead_steps": None,
    "averaging": "ema",
    "averaging_start": 0,
    "averaging_period": 1,
    "ema_warmup": False,
    "sparse": "exact",
    "gradient_reducer": None,
    "skip_nonfinite": False,
    "stochastic_rounding": False,
    "aggregation_dtype": None,
}
# Options that say how state is kept or an update is run, and not what it computes.
_HOW = (
    "master_weights",
    "slot_dtype",
    "rounding_seed",
    "max_consecutive_skips",
    "jit_compile",
    "is_legacy_optimizer",
    "sparse",
)


def to_keras(optimizer: Any) -> Any:
    """Makes an optimizer of the running Keras from one of this package, with its state.

    The next updates are those that this package would have made. The optimizer is not
    changed.

    Args:
      optimizer: an optimizer of this package, in a LossScaleOptimizer or not.

    Returns:
      An optimizer of `keras.optimizers`, or of `tf_keras.optimizers` under Keras 2; built
      if `optimizer` was. One with `groups` becomes a `MultiOptimizer`, where Keras has it.

    Raises:
      TypeError: `optimizer` is none of this package, or a subclass.
      ValueError: Keras has no such class, or has no counterpart of an option or of some
        state.
    """
    if isinstance(optimizer, LossScaleOptimizer):
        return _scaled(optimizer)
    if type(optimizer) not in [record.cls for record in records().values()]:
        raise TypeError(
            "`to_keras` takes one of the optimizers of tf_keras_optim, not a subclass. "
            f"Received: {optimizer!r} (of type {type(optimizer).__name__})."
        )
    title = optimizer.tko.title
    if optimizer.groups:
        return parted.to_keras(optimizer, title, to_keras)
    form = keras_form(type(optimizer))
    cls = getattr(keras.optimizers, form.name or "", None)
    if cls is None:
        raise ValueError(f"{title}: {keras.__name__} has no {type(optimizer).__name__}.")
    made = cls(**_arguments(optimizer, form, title))
    if not optimizer.built:
        _carry_patterns(optimizer, made, [], title)
        return made
    state = {key: v.numpy() for key, v in named_state.collect(optimizer.tko.context).items()}
    _refuse_lost_state(optimizer, state, title)
    tracked = optimizer.tko.store.tracked
    _carry_patterns(optimizer, made, [e.public for e in tracked if not e.decays], title)
    made.build([entry.public for entry in tracked])
    _assign(made, optimizer, state)
    return made


def _arguments(optimizer: Any, form: InKeras, title: str) -> dict[str, Any]:
    """Returns Keras' arguments.

    Raises:
      ValueError: an option has no counterpart.
    """
    config, only = optimizer.get_config(), {**_ONLY, **form.only, **form.fixed}
    for name, value in only.items():
        if name in config and config[name] != value and (config[name] or value):
            raise ValueError(
                f"{title}: `{name}`={config[name]!r} has no counterpart in {keras.__name__}; "
                f"only {value!r} can be converted."
            )
    config.pop("exclude_from_weight_decay", None)  # carried by variable
    rate = optimizer.tko.store.rate_source
    arguments = {k: v for k, v in config.items() if k not in only and k not in _HOW}
    arguments["learning_rate"] = config["learning_rate"] if rate is None else rate
    if config.get("weight_decay") is not None and not optimizer.tko.keras.is_schedule(
        optimizer.weight_decay
    ):
        arguments["weight_decay"] = optimizer.weight_decay
    for name, value in arguments.items():
        if isinstance(value, dict) or (callable(value) and name != "learning_rate"):
            raise ValueError(
                f"{title}: `{name}` follows a schedule, which {keras.__name__} has only for "
                "the learning rate."
            )
    if _GENERATION == 2:
        for name in ("loss_scale_factor", "gradient_accumulation_steps"):
            if arguments.pop(name, None) is not None:
                raise ValueError(f"{title}: tf_keras has no `{name}`.")
        if rate is not None and not optimizer.tko.keras.is_schedule(rate):
            raise ValueError(f"{title}: tf_keras takes no callable as its learning rate.")
    elif arguments.get("gradient_accumulation_steps") == 1:
        arguments["gradient_accumulation_steps"] = None  # Keras wants 2 at least
    return arguments


def _carry_patterns(optimizer: Any, made: Any, excluded: list[Any], title: str) -> None:
    """Gives Keras' optimizer the exclusions from weight decay."""
    exclusions = optimizer.tko.builder.exclusions
    if optimizer.built:
        if excluded:
            made.exclude_from_weight_decay(var_list=excluded)
    elif exclusions:
        raise ValueError(
            f"{title}: it is not built, so its exclusions from weight decay cannot be carried "
            "over. Call `optimizer.build(variables)` first."
        )


def _refuse_lost_state(optimizer: Any, state: dict, title: str) -> None:
    """Refuses what Keras has no place for.

    Raises:
      ValueError: there is such state.
    """
    multiplier = state.get(("scalars", "learning_rate_multiplier"))
    if multiplier is not None and multiplier != 1.0:
        raise ValueError(
            f"{title}: the factor `learning_rate_multiplier`={multiplier} on its schedule has "
            "no place in Keras. Set it to 1 and give it a schedule with the factor in it."
        )
    for entry in optimizer.tko.store.tracked:
        if entry.begun is not None and int(entry.begun.numpy()):
            warnings.warn(
                f"{title}: the slots of variable {entry.path!r} began at update "
                f"{int(entry.begun.numpy())}, and its bias corrections count from there. "
                f"{keras.__name__} counts all updates for every variable, so its next steps "
                "are others until these corrections have faded.",
                stacklevel=4,
            )
        if entry.scales:
            raise ValueError(
                f"{title}: the slots {', '.join(entry.scales)} of variable {entry.path!r} are "
                f"kept in 8 bits (`slot_dtype`={optimizer.slot_dtype!r}), which Keras has no "
                "place for. Convert an optimizer whose `slot_dtype` is None."
            )
        if entry.variable.dtype.size < 4:
            raise ValueError(
                f"{title}: variable {entry.path!r} is {entry.variable.dtype.name}; Keras keeps "
                "its state in that dtype and has no master copies, so digits would be lost."
            )


def _assign(made: Any, optimizer: Any, state: dict) -> None:
    """Sets Keras' state variables."""
    rate_is_number = optimizer.tko.store.rate is not None
    with_rate = _GENERATION == 3 and rate_is_number
    layout = positions.layout_of(optimizer, _GENERATION, with_rate)
    listed = made.variables
    listed = listed() if callable(listed) else listed
    if len(listed) != len(layout.keys):
        raise ValueError(
            f"{keras.__name__} {keras.__version__} lists {len(listed)} state variables of "
            f"{type(made).__name__}, expected {len(layout.keys)}."
        )
    for variable, key in zip(listed, layout.keys):
        if key != positions.UNUSED:
            variable.assign(np.asarray(state[key]).astype(_dtype_name(variable)))
    for ours, theirs in keras_form(type(optimizer)).scalars.items():
        foreign.scalar(made, theirs).assign(state["scalars", ours])
    if _GENERATION == 2:
        foreign.count_product(made, int(state["scalars", "iterations"]))


def _dtype_name(variable: Any) -> str:
    return getattr(variable.dtype, "name", variable.dtype)


def _scaled(optimizer: Any) -> Any:
    """Returns Keras' own LossScaleOptimizer around what is inside.

    Raises:
      ValueError: an argument has no counterpart.
    """
    given = dict(optimizer.arguments)
    fixed = {"growth_factor": 2.0, "backoff_factor": 0.5, "hysteresis": 1, "dynamic": True}
    for name, value in fixed.items():
        if given[name] != value:
            raise ValueError(
                f"LossScaleOptimizer: `{name}`={given[name]!r} has no counterpart in "
                f"{keras.__name__}; only {value!r} can be converted."
            )
    inner = optimizer.inner_optimizer
    made = to_keras(inner)
    arguments = {name: given[name] for name in ("initial_scale", "dynamic_growth_steps")}
    scale, good = (
        float(inner.tko.scaling.scaler.scale.numpy()),
        int(inner.tko.scaling.scaler.good.numpy()),
    )
    if _GENERATION == 2:
        outer = keras.mixed_precision.LossScaleOptimizer(made, **arguments)
        for variable, value in zip(foreign.scale(outer), (scale, good)):
            variable.assign(value)
        return outer
    outer = keras.optimizers.LossScaleOptimizer(made, **arguments)
    if inner.built:
        outer.build([entry.public for entry in inner.tko.store.tracked])
        outer.dynamic_scale.assign(scale)
        outer.step_counter.assign(good)
    return outer
