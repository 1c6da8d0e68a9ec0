"""Keras' own LossScaleOptimizer around an optimizer of this package, where files are loaded.

Keras counts arrays: a state that was saved with the wrapper does not load without it, nor the
other way round. Its second generation does not know optimizers of other packages inside, and
sets no arrays of an HDF5 file. Around other optimizers nothing is changed.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import tf_keras_optim.loss_scale.crossing as crossing
from tf_keras_optim.engine.state import layout
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.keras_compat import described, keras_private
from tf_keras_optim.keras_compat.keras_private_variables import opened
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.optimizers.base import Optimizer


def _load(wrapper: Any, store: Any) -> None:
    """Reads what belongs to the wrapper, and hands on what was saved without one."""
    if layout.inside(opened(store)) is None:
        wrapper.inner_optimizer.load_own_variables(store)
        return
    # Keras goes on with the optimizer inside; its own files begin with a counter and a rate.
    for key, name in (("2", "step_counter"), ("3", "dynamic_scale")):
        variable = getattr(wrapper, name, None)
        if variable is not None and key in store.keys():  # noqa: SIM118  (a store is no mapping)
            variable.assign(np.asarray(store[key]))


def _set_weights(wrapper: Any, weights: Any) -> None:
    wrapper.inner_optimizer.set_weights(weights)


def _around_ours(own: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Keras' own `__init__` looks for edges before there is one.
        around = isinstance(getattr(self, "inner_optimizer", None), Optimizer)
        return (ours if around else own)(self, *args, **kwargs)

    return method


def _from_config(own: Any) -> Any:
    @functools.wraps(own)
    def from_config(cls: Any, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        inner = config["inner_optimizer"]
        if isinstance(inner, Mapping) and "module" in inner:
            found = described.registered(keras, inner, custom_objects)
            if isinstance(found, type) and issubclass(found, Optimizer):
                made = described.made(keras, found, inner, custom_objects)
                config = {**config, "inner_optimizer": made}
        return own(cls, config, custom_objects)

    return classmethod(from_config)


def watch() -> None:
    """Has Keras' own wrapper hand on what is loaded to optimizers of this package."""
    if keras.__name__.startswith("tf_keras"):
        wrapper: Any = keras_private.loss_scale_class()
        wrapper.from_config = _from_config(wrapper.from_config.__func__)
        wrapper.set_weights = _around_ours(wrapper.set_weights, _set_weights)
    else:
        wrapper = keras.optimizers.LossScaleOptimizer
        tracking.look_up_by(
            wrapper,
            lambda own: _around_ours(own, crossing.looking_up(own, crossing.TO_KERAS)),
        )
    wrapper.load_own_variables = _around_ours(wrapper.load_own_variables, _load)
