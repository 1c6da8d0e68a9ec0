"""Keras' own LossScaleOptimizer around an optimizer of this package, where files are loaded.

Keras counts arrays: a state that was saved with the wrapper does not load without it, nor the
other way round. Its second generation does not know optimizers of other packages inside, and
sets no arrays of an HDF5 file. Around other optimizers nothing is changed.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim.loss_scale.crossing as crossing
import tf_keras_optim.loss_scale.leading as leading
from tf_keras_optim.engine.state import layout
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.keras_compat import described, keras_private
from tf_keras_optim.keras_compat.keras_private_variables import opened
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.optimizers.base import Optimizer

_IS_KERAS_2 = keras.__name__.startswith("tf_keras")
_WAITING = "_tko_waiting_scale"


def waiting(wrapper: Any) -> dict[str, np.ndarray]:
    """Returns the loaded counter and scale that wait until the wrapper is built, by name."""
    return tracking.attributes(wrapper).get(_WAITING, {})


def let_wait(wrapper: Any, scale: Mapping[str, np.ndarray]) -> None:
    """Keeps a counter and a scale until the wrapper is built."""
    tracking.keep_untracked(wrapper, _WAITING, dict(scale))


def _load(wrapper: Any, store: Any) -> None:
    """Reads what belongs to the wrapper, and hands on what was saved without one."""
    store = opened(store)
    if layout.inside(store) is None:
        wrapper.inner_optimizer.load_own_variables(store)
        return
    # Keras goes on with the optimizer inside. Its second generation saves no scale.
    if _IS_KERAS_2 or not list(store.keys()):
        return
    scale = leading.scale(store)
    if not wrapper.built:
        let_wait(wrapper, scale)
        return
    # What was saved before there was a scale begins anew, as the optimizer inside does.
    start = {"step_counter": 0, "dynamic_scale": wrapper.initial_scale}
    _set_scale(wrapper, scale or start)


def _set_scale(wrapper: Any, scale: Mapping[str, Any]) -> None:
    unwrap = wrapper.inner_optimizer.tko.keras.unwrap
    for name, value in scale.items():
        variable = unwrap(getattr(wrapper, name))
        with tf.init_scope():
            distribution.set_everywhere(variable, np.asarray(value, variable.dtype.name))


def _building(own: Callable[..., Any]) -> Callable[..., Any]:
    def build(self: Any, var_list: Any) -> None:
        own(self, var_list)
        _set_scale(self, waiting(self))
        let_wait(self, {})

    return build


def _scaling(own: Callable[..., Any]) -> Callable[..., Any]:
    def scale_loss(self: Any, loss: Any) -> Any:
        scale = waiting(self).get("dynamic_scale")  # what the gradients will be divided by
        return own(self, loss) if scale is None else keras.ops.multiply(loss, scale)

    return scale_loss


def _saving(own: Callable[..., Any]) -> Callable[..., Any]:
    def save_own_variables(self: Any, store: Any) -> None:
        found = waiting(self)
        if not found:
            own(self, store)
            return
        inside, _ = self.inner_optimizer.tko.state.numbered()
        arrays = [0, 0.0, found["step_counter"], found["dynamic_scale"], *inside.values()]
        for place, value in enumerate(arrays):
            store[str(place)] = np.asarray(value)

    return save_own_variables


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


def _refusing_a_factor(own: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(own)
    def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        inner = args[0] if args else kwargs.get("inner_optimizer")
        if isinstance(inner, Optimizer) and inner.loss_scale_factor is not None:
            raise ValueError(
                f"{inner.tko.title}: argument `loss_scale_factor`={inner.loss_scale_factor} is "
                "not possible inside Keras' LossScaleOptimizer (which the policy "
                "'mixed_float16' puts around an optimizer): Keras multiplies the loss by its "
                "own scale alone, so that gradients would be divided by this factor without "
                "having been multiplied. Leave the argument out."
            )
        own(self, *args, **kwargs)

    return initialize


def watch() -> None:
    """Has Keras' own wrapper hand on what is loaded to optimizers of this package."""
    if _IS_KERAS_2:
        wrapper: Any = keras_private.loss_scale_class()
        wrapper.from_config = _from_config(wrapper.from_config.__func__)
        wrapper.set_weights = _around_ours(wrapper.set_weights, _set_weights)
    else:
        wrapper = keras.optimizers.LossScaleOptimizer
        tracking.look_up_by(
            wrapper,
            lambda own: _around_ours(own, crossing.looking_up(own, crossing.TO_KERAS)),
        )
        for name, around in (
            ("build", _building),
            ("scale_loss", _scaling),
            ("save_own_variables", _saving),
        ):
            own = getattr(wrapper, name)
            setattr(wrapper, name, _around_ours(own, around(own)))
    wrapper.__init__ = _refusing_a_factor(wrapper.__init__)
    wrapper.load_own_variables = _around_ours(wrapper.load_own_variables, _load)
