"""State as numbered arrays of which nothing is known but their place."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import (
    assigning,
    inventory,
    late,
    layout,
    named_state,
    resetting,
    saved_arrays,
    scalar_checks,
    skipping,
)
from tf_keras_optim.engine.state.waiting import Pending, Waiting

_MULTIPLIER = layout.MULTIPLIER


class NumberedState:
    """Takes arrays in by their place alone, as Keras does.

    Args:
      context: what the optimizer's parts share.
      pending: where state waits for its slots.
    """

    def __init__(self, context: Context, pending: Pending):
        self._context = context
        self._pending = pending

    def load(self, values: layout.Values) -> None:
        """Loads arrays that nothing is known about but their numbers."""
        named = inventory.by_name(self._context)
        factor = values.get(_MULTIPLIER, np.float32(1.0))
        scalar_checks.check(self._context, {_MULTIPLIER: factor})
        if _MULTIPLIER not in named and factor != 1.0:
            raise ValueError(
                f"{self._context.title} follows no schedule, but the saved one did, with the "
                f"factor `{_MULTIPLIER}` = {factor} on it. Create the optimizer with that "
                "schedule."
            )
        given = Waiting(values=values, skips=skipping.mismatches_are_skipped())
        here, is_built = inventory.positional(self._context), self._context.store.is_built
        has_rate = self._context.keras.rate_is_state and self._context.store.rate is not None
        scalars = 1 + has_rate
        if is_built and given.size == scalars and not np.any(np.asarray(values["0"])):
            self._pending.drop()
            resetting.reset(self._context)  # it was saved before it had slots
            self.assign([values[str(i)] for i in range(scalars)], "saved", here[:scalars])
        elif is_built or given.size == len(here):
            self.take(given)
        else:
            self._pending.let_wait(given)
        by_name = {_MULTIPLIER: factor} | values
        found = [(v, np.asarray(by_name[n])) for n, v in named.items() if n in by_name]
        assigning.assign(self._context, found)

    def take(self, given: Waiting) -> None:
        """Takes over what waited; of what is to be skipped, what fits.

        Raises:
          ValueError: number or shapes differ. Nothing is changed then.
        """
        assert given.values is not None
        arrays = [given.values[str(i)] for i in range(given.size)]
        variables = inventory.positional(self._context)
        if given.is_all:
            self.assign_all(arrays)
        elif given.skips:
            self._assign_what_fits(arrays, variables)
        else:
            self.assign(arrays, "saved", variables)

    def assign_all(self, arrays: Sequence[np.ndarray]) -> None:
        """Sets all that is listed.

        Raises:
          ValueError: number or shapes differ, or a scalar is none. Nothing is changed then.
        """
        try:
            variables = late.numbered(self._context, len(arrays))
            self.assign(arrays, "given", variables)
        finally:
            late.put(self._context, {})  # forgets where slots began if all began at once

    def _assign_what_fits(
        self, arrays: Sequence[Any], variables: Sequence[tf.Variable]
    ) -> None:
        """Takes over what has the shape of the state variable at its place."""
        if len(arrays) != len(variables):
            line = f"  All of it: {len(arrays)} arrays were saved, here are {len(variables)}."
            skipping.warn(self._context.title, line)
            return
        pairs = list(zip(variables, arrays))
        others = [(v, a) for v, a in pairs if tuple(v.shape) != tuple(a.shape)]
        fitting = [(v, a) for v, a in pairs if tuple(v.shape) == tuple(a.shape)]
        self.assign([a for _, a in fitting], "saved", [v for v, _ in fitting])
        if others:
            lines = [
                f"  {self._name_of(v)}: here {tuple(v.shape)}, saved {tuple(a.shape)}"
                for v, a in others
            ]
            skipping.warn(self._context.title, "\n".join(lines))

    def assign(
        self, values: Sequence[np.ndarray], kind: str, variables: Sequence[tf.Variable]
    ) -> None:
        """Sets state variables to arrays, after checking all of them.

        Args:
          values: the arrays.
          kind: "given" or "saved", for messages.
          variables: the state variables.

        Raises:
          ValueError: number or shapes differ, or a scalar is none. Nothing is changed then.
        """
        if len(values) != len(variables):
            names = ", ".join(self._name_of(variable) for variable in variables)
            raise ValueError(
                f"{self._context.title} has {len(variables)} state variables, but "
                f"{len(values)} arrays were {kind}. Expected one for each of: {names}. "
                "The optimizer's options and trainable variables must be those of the "
                "saved one."
            )
        for variable, value in zip(variables, values):
            if tuple(variable.shape) != tuple(value.shape):
                raise ValueError(
                    f"{self._context.title}: state variable {self._name_of(variable)!r} has "
                    f"shape {tuple(variable.shape)}, but the {kind} array has shape "
                    f"{tuple(value.shape)}. The optimizer's options and trainable "
                    "variables must be those of the saved one."
                )
        keys = {id(v): key for key, v in named_state.collect(self._context).items()}
        named = [(keys[id(v)], value) for v, value in zip(variables, values) if id(v) in keys]
        scalar_checks.check(
            self._context, {key[1]: v for key, v in named if key[0] == "scalars"}
        )
        dtypes = [variable.dtype.as_numpy_dtype for variable in variables]
        arrays = [saved_arrays.named(a, dtype) for a, dtype in zip(values, dtypes)]
        ages, assigned = late.ages(self._context), set(map(id, variables))
        assigning.assign(
            self._context,
            [(v, a.astype(dtype)) for v, a, dtype in zip(variables, arrays, dtypes)],
        )
        begun = self._context.store.late().values()
        if assigned.isdisjoint(map(id, begun)):
            late.note_loaded(self._context, ages, late.loaded(self._context, assigned, {}, 0))

    def _name_of(self, variable: tf.Variable) -> str:
        return inventory.name_of(self._context, variable)
