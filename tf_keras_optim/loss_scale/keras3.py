"""LossScaleOptimizer as Keras 3 expects it."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tf_keras_optim.loss_scale.common as common
import tf_keras_optim.loss_scale.crossing as crossing
import tf_keras_optim.loss_scale.leading as leading
from tf_keras_optim.engine.state import layout
from tf_keras_optim.engine.step import received
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.keras_compat import described, naming
from tf_keras_optim.keras_compat.keras3_side import automatic_name
from tf_keras_optim.keras_compat.keras_private_variables import opened
from tf_keras_optim.loss_scale.arguments import checked, documented
from tf_keras_optim.loss_scale.handed_on import hand_on
from tf_keras_optim.loss_scale.origins import Origins
from tf_keras_optim.optimizers.base import Optimizer

_CONTRACT = """As in Keras 3, `apply_gradients` takes the gradients of the scaled loss.
Gradients that `get_unscaled_gradients` returned, as in Keras 2, are not divided again."""
_UNUSED = ["unused"]


def _looked_up_inside(self: Any, name: str, *cached: Any) -> Any:
    """Returns what hangs on a wrapper: the optimizer inside, or a number of that."""
    inner = self.inner_optimizer
    return inner if name == "inner_optimizer" else tracking.looked_up(inner, name, *cached)


class LossScaleOptimizer(common.LossScaling, keras.optimizers.LossScaleOptimizer):
    """Filled below."""

    _other_keras = "tf_keras"
    _how_to_change = naming.HOW_TO_BIND_TO_KERAS_2
    _lock = False

    def __init__(self, inner_optimizer: Any, *args: Any, **kwargs: Any):
        arguments = checked(args, kwargs)
        name = arguments.pop("name")
        self._wrap_optimizer(inner_optimizer, arguments)
        self.name = name or automatic_name(type(self).__name__)
        tracking.keep_untracked(self, "_origins", Origins())
        tracking.track(self, "inner_optimizer", inner_optimizer)  # its name in checkpoints
        self._set_up = True

    @property
    def inner_optimizer(self) -> Any:
        """The optimizer that is wrapped."""
        return self._inner

    def scale_loss(self, loss: Any) -> Any:
        """Multiplies a loss by the scale, in float32 or wider.

        Args:
          loss: tensor or number, or a callable that returns one.
        """
        self._origins.loss_was_scaled()
        return super().scale_loss(loss)

    def get_unscaled_gradients(self, grads: Iterable[Any]) -> list[Any]:
        """Divides gradients by the scale, in float32 or wider.

        `apply_gradients` recognizes the returned gradients and does not divide them again.

        Args:
          grads: tensors, slices, or `None`.
        """
        grads = list(grads)
        unscaled = super().get_unscaled_gradients(grads)
        self._origins.were_unscaled(grads, unscaled)
        return unscaled

    @tf.autograph.experimental.do_not_convert
    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        scaled: bool | None = None,
    ) -> Any:
        """Unscales gradients and applies them, or skips the step.

        Args:
          grads_and_vars: pairs of a gradient of the scaled loss and its variable.
          name: ignored; there for the older Keras signature.
          skip_gradients_aggregation: the gradients are summed over replicas already.
          scaled: whether the gradients still carry the scale. By default, gradients that
            `get_unscaled_gradients` returned do not, and neither does what a graph computes
            from them. Other tensors (such as clipped ones, in eager code) do not carry it if
            `get_unscaled_gradients` was called after the last `scale_loss` in this thread or
            graph; otherwise they do. A traced function keeps the decision of its trace.

        Returns:
          The variable `iterations`.

        Raises:
          ValueError: `scaled` must be given: `get_unscaled_gradients` was called elsewhere and
            did not return these gradients, or it returned only some of them.
        """
        pairs = list(grads_and_vars)
        gradients, variables = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if scaled is None:
            scaled = self._origins.carry_the_scale(gradients, self._inner.tko.title)
        given = Received(aggregate=not skip_gradients_aggregation, scaled=scaled)
        with received.known(self, given):
            self.apply(gradients, variables)
        return self._counter()

    @tf.autograph.experimental.do_not_convert
    def apply(
        self, grads: Sequence[Any], trainable_variables: Any = None, scaled: bool | None = None
    ) -> None:
        """Unscales gradients, given as a list, and applies them, or skips the step.

        Args:
          grads: gradients of the scaled loss.
          trainable_variables: their variables; those of `build` by default.
          scaled: as for `apply_gradients`.
        """
        given = received.now(self, None)
        if given is None:
            if scaled is None:
                scaled = self._origins.carry_the_scale(grads, self._inner.tko.title)
            given = Received(scaled=scaled)
        elif scaled is not None:
            given = dataclasses.replace(given, scaled=scaled)
        gradients, admission = list(grads), self._inner.tko.stepper.admission
        variables = admission.variables_for(gradients, trainable_variables)
        self._hand_on(gradients, variables, given)

    @tf.autograph.experimental.do_not_convert
    def compute_gradients(self, loss: Any, var_list: Any, tape: Any = None) -> list[tuple]:
        """Returns pairs of the gradient of the scaled loss and the variable.

        They are what `apply_gradients` takes.

        Args:
          loss: callable without arguments, or a tensor computed under `tape`.
          var_list: the variables, or a callable that returns them.
          tape: the `tf.GradientTape`; needed where `loss` is a tensor.
        """
        return self._scaled_pairs(loss, var_list, tape)

    @tf.autograph.experimental.do_not_convert
    def minimize(self, loss: Any, var_list: Any, tape: Any = None) -> Any:
        """Scales a loss, computes its gradients and applies them.

        Args:
          loss: callable without arguments, or a tensor computed under `tape`.
          var_list: the variables, or a callable that returns them.
          tape: the `tf.GradientTape`; needed where `loss` is a tensor.
        """
        return self.apply_gradients(self.compute_gradients(loss, var_list, tape))

    def save_own_variables(self, store: Any) -> None:
        """Writes the state in the layout of Keras' own LossScaleOptimizer."""
        values, notes = self._inner.tko.state.numbered()
        places = {"step_counter": "2", "dynamic_scale": "3"}
        for key in values:
            if key.isdigit():
                places[key] = str(int(key) + leading.BUILT)
        arranged = {"0": np.asarray(0), "1": np.asarray(0.0)}
        arranged |= {places.get(key, key): value for key, value in values.items()}
        noted = {key: layout.note(tuple(_UNUSED), arranged[key]) for key in ("0", "1")}
        noted |= {places.get(key, key): note for key, note in notes.items()}
        layout.write(opened(store), arranged, noted)

    def load_own_variables(self, store: Any) -> None:
        """Reads the state, also of Keras' own LossScaleOptimizer."""
        store = opened(store)
        inside = layout.inside(store)
        if inside is not None and leading.is_noted(inside) and not leading.is_noted(store):
            # Keras' own wrapper, around an optimizer of this package.
            self._inner.load_own_variables(inside)
            for name, value in leading.scale(store).items():
                getattr(self, name).assign(value)
            return
        values, notes = layout.read(store, self._inner.tko.title)
        if not values:
            return
        if notes and notes.get("0", {}).get("key") != _UNUSED:
            # It was saved by an optimizer without a wrapper.
            self._inner.tko.state.load_layout(values, notes)
            return
        first = leading.number(store)
        places = {"2": "step_counter", "3": "dynamic_scale"} if first == leading.BUILT else {}
        for key in values:
            if key.isdigit() and int(key) >= first:
                places[key] = str(int(key) - first)

        def arranged(found: dict[str, Any]) -> dict[str, Any]:
            return {places.get(k, k): v for k, v in found.items() if k not in ("0", "1")}

        self._inner.tko.state.load_layout(arranged(values), arranged(notes))

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict:
        # Beside the optimizer inside its numbers, as Keras' own wrapper has some of them.
        numbers = tracking.children(self._inner, save_type, **kwargs)
        return numbers | {"inner_optimizer": self._inner}

    _lookup_dependency = crossing.looking_up(_looked_up_inside, crossing.TO_OURS)

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


hand_on(LossScaleOptimizer, common.LossScaling)
LossScaleOptimizer.__doc__ = documented(_CONTRACT)
