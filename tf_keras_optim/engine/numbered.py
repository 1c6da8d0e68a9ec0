"""State as numbered arrays of which nothing is known but their place."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine import (
    late,
    layout,
    named_state,
    saved_arrays,
    scalar_checks,
    skipping,
)
from tf_keras_optim.engine.waiting import Waiting

_MULTIPLIER = layout.MULTIPLIER


class Numbered:
    """The part of an optimizer that takes arrays in by their place alone, as Keras does."""

    built: bool
    reset_state: Callable[[], None]
    _let_wait: Callable[[Waiting], None]
    _set: Callable[[Sequence[tuple[tf.Variable, np.ndarray]]], None]

    def _state_variables(self) -> list[tf.Variable]:
        raise NotImplementedError

    def _named_state(self) -> dict[str, tf.Variable]:
        """Returns state that has no place in Keras' positional layout, by name."""
        raise NotImplementedError

    def _positional_state(self) -> list[tf.Variable]:
        named = {id(variable) for variable in self._named_state().values()}
        return [v for v in self._state_variables() if id(v) not in named]

    def _load_numbered(self, values: layout.Values) -> None:
        """Loads arrays that nothing is known about but their numbers."""
        named = self._named_state()
        factor = values.get(_MULTIPLIER, np.float32(1.0))
        scalar_checks.check(self, {_MULTIPLIER: factor})
        if _MULTIPLIER not in named and factor != 1.0:
            raise ValueError(
                f"{self._title()} follows no schedule, but the saved one did, with the factor "
                f"`{_MULTIPLIER}` = {factor} on it. Create the optimizer with that schedule."
            )
        given = Waiting(values=values, skips=skipping.mismatches_are_skipped())
        scalars = 2 if self._rate_is_state else 1  # type: ignore[attr-defined]
        if self.built and given.size == scalars and not np.any(np.asarray(values["0"])):
            self.reset_state()  # it was saved before it had slots
            self._assign(
                [values[str(i)] for i in range(scalars)],
                "saved",
                self._positional_state()[:scalars],
            )
        elif self.built or given.size == len(self._positional_state()):
            self._assign_numbered(given)
        else:
            self._let_wait(given)
        by_name = {_MULTIPLIER: factor} | values
        self._set([(v, np.asarray(by_name[n])) for n, v in named.items() if n in by_name])

    def _assign_numbered(self, given: Waiting) -> None:
        assert given.values is not None
        arrays = [given.values[str(i)] for i in range(given.size)]
        variables = self._positional_state()
        if given.skips:
            self._assign_what_fits(arrays, variables)
        else:
            self._assign(arrays, "saved", variables)

    def _assign_what_fits(
        self, arrays: Sequence[Any], variables: Sequence[tf.Variable]
    ) -> None:
        """Takes over what has the shape of the state variable at its place."""
        if len(arrays) != len(variables):
            line = f"  All of it: {len(arrays)} arrays were saved, here are {len(variables)}."
            skipping.warn(self._title(), line)
            return
        pairs = list(zip(variables, arrays))
        others = [(v, a) for v, a in pairs if tuple(v.shape) != tuple(a.shape)]
        fitting = [(v, a) for v, a in pairs if tuple(v.shape) == tuple(a.shape)]
        self._assign([a for _, a in fitting], "saved", [v for v, _ in fitting])
        if others:
            lines = [
                f"  {self._state_name(v)}: here {tuple(v.shape)}, saved {tuple(a.shape)}"
                for v, a in others
            ]
            skipping.warn(self._title(), "\n".join(lines))

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
        keys = {id(v): key for key, v in named_state.collect(self).items()}
        named = [(keys[id(v)], value) for v, value in zip(variables, values) if id(v) in keys]
        scalar_checks.check(self, {key[1]: v for key, v in named if key[0] == "scalars"})
        dtypes = [variable.dtype.as_numpy_dtype for variable in variables]
        arrays = [saved_arrays.named(a, dtype) for a, dtype in zip(values, dtypes)]
        ages, assigned = late.ages(self), set(map(id, variables))
        self._set([(v, a.astype(dtype)) for v, a, dtype in zip(variables, arrays, dtypes)])
        begun = self._store.late().values()  # type: ignore[attr-defined]
        if assigned.isdisjoint(map(id, begun)):
            late.adopt(self, ages, late.loaded(self, assigned, {}, 0))

    def _state_name(self, variable: tf.Variable) -> str:
        for name, candidate in self._store.named.items():  # type: ignore[attr-defined]
            if candidate is variable:
                return name
        return variable.name

    def _title(self) -> str:
        return f"{type(self).__name__} {self.name!r}"  # type: ignore[attr-defined]
