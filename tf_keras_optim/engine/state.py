"""Reading and writing an optimizer's state, in the layout Keras expects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_MULTIPLIER = "learning_rate_multiplier"


class State:
    """The part of an optimizer that hands its state out and takes it in.

    The layout is the order of `variables`. Values that arrive before the slots
    exist wait until `build` has made them; nothing is dropped.
    """

    _pending: list[np.ndarray] | None = None

    def _state_variables(self) -> list[tf.Variable]:
        raise NotImplementedError

    def _named_state(self) -> dict[str, tf.Variable]:
        """Returns state that has no place in Keras' positional layout, by name."""
        raise NotImplementedError

    def _positional_state(self) -> list[tf.Variable]:
        named = {id(variable) for variable in self._named_state().values()}
        return [v for v in self._state_variables() if id(v) not in named]

    def get_weights(self) -> list[np.ndarray]:
        """Returns the state as NumPy arrays, in the order of `variables`."""
        return [variable.numpy() for variable in self._state_variables()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the state from arrays in the order of `variables`.

        Args:
          weights: arrays with the shapes of `variables`.

        Raises:
          ValueError: the optimizer is not built, or the number or a shape differs.
            Nothing is changed then.
        """
        if not self.built:  # type: ignore[attr-defined]
            raise ValueError(
                f"{self._title()} has no slots yet. Call "
                "`optimizer.build(trainable_variables)` before `set_weights(weights)`."
            )
        arrays = [np.asarray(weight) for weight in weights]
        self._assign(arrays, "given", self._state_variables())

    def save_own_variables(self, store: Any) -> None:
        """Writes the state into a Keras store: by position, and by name what Keras lacks."""
        for position, variable in enumerate(self._positional_state()):
            store[str(position)] = variable.numpy()
        for name, variable in self._named_state().items():
            if name != _MULTIPLIER or variable.numpy() != 1.0:
                store[name] = variable.numpy()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Reads the state from a Keras store.

        An optimizer that is not built yet keeps the values until `build`. A file
        without optimizer state (of a model that was never compiled) changes nothing.

        Raises:
          ValueError: the number of arrays or a shape differs from this
            optimizer's. Nothing is changed then.
        """
        names = set(store.keys())
        values = [np.asarray(store[str(i)]) for i in range(sum(map(str.isdigit, names)))]
        if not values:
            return
        named = self._named_state()
        factor = np.asarray(store[_MULTIPLIER]) if _MULTIPLIER in names else np.float32(1.0)
        if _MULTIPLIER not in named and factor != 1.0:
            raise ValueError(
                f"{self._title()} follows no schedule, but the saved one did, with the factor "
                f"`{_MULTIPLIER}` = {factor} on it. Create the optimizer with that schedule."
            )
        if self.built or len(values) == len(self._positional_state()):  # type: ignore[attr-defined]
            self._assign(values, "saved", self._positional_state())
        else:
            self._pending = self._no_dependency(values)  # type: ignore[attr-defined]
        found = {name: np.asarray(store[name]) for name in names & set(named)}
        for name, value in ({_MULTIPLIER: factor} | found).items():
            if name in named:
                named[name].assign(value)

    def _load_pending(self) -> None:
        """Assigns waiting values as soon as every variable they belong to exists."""
        if self._pending is not None and len(self._pending) == len(self._positional_state()):
            values, self._pending = self._pending, None
            self._assign(values, "saved", self._positional_state())

    def _check_nothing_pending(self) -> None:
        if self._pending is not None:
            values, self._pending = self._pending, None
            self._assign(values, "saved", self._positional_state())

    def _assign(
        self, values: Sequence[np.ndarray], kind: str, variables: Sequence[tf.Variable]
    ) -> None:
        if len(values) != len(variables):
            names = ", ".join(self._state_name(variable) for variable in variables)
            raise ValueError(
                f"{self._title()} has {len(variables)} state variables, but "
                f"{len(values)} arrays were {kind}. Expected one for each of: {names}. "
                "The optimizer's options and trainable variables must be those of the "
                "saved one."
            )
        for variable, value in zip(variables, values):
            if tuple(variable.shape) != tuple(value.shape):
                raise ValueError(
                    f"{self._title()}: state variable {self._state_name(variable)!r} has "
                    f"shape {tuple(variable.shape)}, but the {kind} array has shape "
                    f"{tuple(value.shape)}. The optimizer's options and trainable "
                    "variables must be those of the saved one."
                )
        for variable, value in zip(variables, values):
            variable.assign(value.astype(variable.dtype.as_numpy_dtype))

    def _state_name(self, variable: tf.Variable) -> str:
        for name, candidate in self._store.named.items():  # type: ignore[attr-defined]
            if candidate is variable:
                return name
        return variable.name

    def _title(self) -> str:
        return f"{type(self).__name__} {self.name!r}"  # type: ignore[attr-defined]
