"""LossScaleOptimizer as Keras 3 expects it."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tf_keras_optim.loss_scale.common as common
from tf_keras_optim.engine import layout
from tf_keras_optim.faces import described
from tf_keras_optim.optimizers.base import Optimizer

AutoTrackable = tf.__internal__.tracking.AutoTrackable
_CONTRACT = """As in Keras 3, `apply_gradients` takes the gradients of the scaled loss; those
that went through `get_unscaled_gradients` just before are taken as they are."""
_LEADING = 4  # Keras lists a counter and a rate of its own before the counter and the scale


class LossScaleOptimizer(common.LossScaling, keras.optimizers.LossScaleOptimizer):
    """Filled below."""

    _lock = False
    __setattr__ = AutoTrackable.__setattr__
    use_ema = common.forwarded("use_ema")
    ema_momentum = common.forwarded("ema_momentum")
    _trainable_variables = common.forwarded("_trainable_variables")
    _iterations = common.forwarded("_iterations")
    _learning_rate = common.forwarded("_learning_rate")

    def __init__(self, inner_optimizer: Any, *args: Any, **kwargs: Any):
        arguments = common.checked(args, kwargs)
        name = arguments.pop("name")
        self._wrap_optimizer(inner_optimizer, arguments)
        self.arguments = inner_optimizer._no_dependency(arguments)
        self.name = name or "loss_scale_optimizer"
        self._inner = inner_optimizer._no_dependency(inner_optimizer)
        self._track_trackable(inner_optimizer, "inner_optimizer")  # its name in checkpoints

    @property
    def inner_optimizer(self) -> Any:
        """The optimizer that is wrapped."""
        return self._inner

    @tf.autograph.experimental.do_not_convert
    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
    ) -> Any:
        """Unscales gradients and applies them, or skips the step.

        Args:
          grads_and_vars: pairs of a gradient of the scaled loss and its variable.
          name: ignored; there for the older Keras signature.
          skip_gradients_aggregation: the gradients are summed over replicas already.

        Returns:
          The variable `iterations`.
        """
        pairs = list(grads_and_vars)
        self._inner._apply(
            [pair[0] for pair in pairs],
            [pair[1] for pair in pairs],
            not skip_gradients_aggregation,
            scaled=self._takes_scaled(True),
        )
        return self._inner._iterations

    @tf.autograph.experimental.do_not_convert
    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Unscales gradients, given as a list, and applies them, or skips the step.

        Args:
          grads: gradients of the scaled loss.
          trainable_variables: their variables; those of `build` by default.
        """
        self._inner._apply(
            list(grads),
            self._inner._variables_for(grads, trainable_variables),
            scaled=self._takes_scaled(True),
        )

    @tf.autograph.experimental.do_not_convert
    def minimize(self, loss: Any, var_list: Any, tape: Any = None) -> Any:
        """Scales a loss, computes its gradients and applies them.

        Args:
          loss: callable without arguments, or a tensor computed under `tape`.
          var_list: the variables, or a callable that returns them.
          tape: the `tf.GradientTape`; needed where `loss` is a tensor.
        """
        pairs = self._inner._gradients_of(loss, var_list, tape, self.scale_loss)
        return self.apply_gradients(pairs)

    def save_own_variables(self, store: Any) -> None:
        """Writes the state in the layout of Keras' own LossScaleOptimizer."""
        values, notes = self._inner._layout()
        places = {"step_counter": "2", "dynamic_scale": "3"}
        for key in values:
            if key.isdigit():
                places[key] = str(int(key) + _LEADING)
        arranged = {"0": np.asarray(0), "1": np.asarray(0.0)}
        arranged |= {places.get(key, key): value for key, value in values.items()}
        noted = {key: layout.note(("unused",), arranged[key]) for key in ("0", "1")}
        noted |= {places.get(key, key): note for key, note in notes.items()}
        layout.write(store, arranged, noted)

    def load_own_variables(self, store: Any) -> None:
        """Reads the state, also of Keras' own LossScaleOptimizer."""
        values, notes = layout.read(store, self._inner._title())
        if not values:
            return
        places = {"2": "step_counter", "3": "dynamic_scale"}
        for key in values:
            if key.isdigit() and int(key) >= _LEADING:
                places[key] = str(int(key) - _LEADING)

        def arranged(found: dict[str, Any]) -> dict[str, Any]:
            return {places.get(k, k): v for k, v in found.items() if k not in ("0", "1")}

        self._inner._load_layout(arranged(values), arranged(notes))

    def get_config(self) -> dict[str, Any]:
        """Returns every argument by name; `from_config` makes an equal optimizer."""
        inner = keras.saving.serialize_keras_object(self._inner)
        return {"name": self.name, "inner_optimizer": inner, **self.arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Makes an optimizer from what `get_config` returned."""
        config = dict(config)
        inner = config.pop("inner_optimizer")
        if isinstance(inner, dict):
            inner = described.instance(
                keras, inner, Optimizer, "an optimizer of tf_keras_optim", custom_objects
            )
        return cls(inner, **config)


LossScaleOptimizer.__doc__ = common.DOCUMENTATION.replace("{contract}", _CONTRACT)
