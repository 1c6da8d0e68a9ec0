"""Optimizers of this package as legacy ones of Keras 2.

tf_keras has `convert_to_legacy_optimizer`, which passes an optimizer's whole configuration on;
a legacy optimizer refuses what it does not know. Here it is given what it knows.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tf_keras_optim.engine.declarations import parameters_of
from tf_keras_optim.keras_compat import keras_private
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers.base import Optimizer

_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")
# What changes no number by itself.
_WITHOUT_EFFECT = (
    "jit_compile",
    "name",
    "is_legacy_optimizer",
    "ema_momentum",
    "rounding_seed",
)


def to_legacy(optimizer: Any) -> Any:
    """Makes the legacy optimizer of Keras 2 with the same arguments; without state.

    Args:
      optimizer: an optimizer or LossScaleOptimizer of this package.

    Raises:
      ValueError: Keras 2 has no such legacy optimizer, or it has not what is set here.
    """
    title = f"{type(optimizer).__name__} {optimizer.name!r}"
    config = optimizer.get_config()
    defaults = {name: p.default for name, p in parameters_of(type(optimizer)).items()}
    if isinstance(optimizer, LossScaleOptimizer):
        cls = keras.mixed_precision.LossScaleOptimizer
        config["inner_optimizer"] = to_legacy(optimizer.inner_optimizer)
        if not optimizer.dynamic:
            defaults["dynamic_growth_steps"] = config["dynamic_growth_steps"]
            config["dynamic_growth_steps"] = None
    else:
        cls = getattr(keras.optimizers.legacy, type(optimizer).__name__, None)
        config["learning_rate"] = _rate(optimizer)
    if cls is None:
        raise ValueError(f"{title}: Keras 2 has no legacy optimizer of this name.")
    if isinstance(optimizer, LossScaleOptimizer):
        known = {"inner_optimizer", "dynamic", "initial_scale", "dynamic_growth_steps"}
    else:
        known = {*inspect.signature(cls.__init__).parameters, *_CLIPS}
    other = {name: value for name, value in config.items() if name not in known}
    lost = [
        f"{name}={value!r}"
        for name, value in other.items()
        if value and name not in _WITHOUT_EFFECT and value != defaults.get(name)
    ]
    if lost:
        raise ValueError(
            f"{title} cannot become a legacy optimizer of Keras 2, which has no "
            f"{', '.join(lost)}. Create the optimizer without, or keep it as it is."
        )
    return cls(**{name: config[name] for name in config if name in known - {"self"}})


def _rate(optimizer: Any) -> Any:
    """Returns the learning rate: a number, a schedule or a callable."""
    rate = optimizer.tko.rate.source
    if not callable(rate) or hasattr(rate, "numpy"):
        return float(rate.numpy())
    factor = optimizer.tko.store.multiplier
    if factor is not None and float(factor.numpy()) != 1.0:
        raise ValueError(
            f"{type(optimizer).__name__} {optimizer.name!r} has `learning_rate_multiplier`="
            f"{float(factor.numpy())} on its schedule, which a legacy optimizer of Keras 2 has "
            "not. Set it to 1, or put the factor into the schedule."
        )
    return rate


def _knowing_ours(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(convert)
    def convert_any(optimizer: Any) -> Any:
        ours = isinstance(optimizer, (Optimizer, LossScaleOptimizer))
        return to_legacy(optimizer) if ours else convert(optimizer)

    return convert_any


def _watch() -> None:
    """Has Keras 2 convert the optimizers of this package too; Keras 3 has no legacy ones."""
    if not keras_private.IS_KERAS_3:
        keras_private.replace_legacy_conversion(_knowing_ours)


_watch()
