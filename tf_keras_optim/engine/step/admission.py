"""Checking the gradients and variables of a call, and making the slots that are missing."""

import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state.paths import path_of
from tf_keras_optim.engine.state.store import VariableState, compute_dtype
from tf_keras_optim.engine.tensorflow import distribution


class Admission:
    """Lets gradients and variables in.

    Args:
      context: what the optimizer's parts share.
      build: makes the slots of variables; a method that a subclass may override.
    """

    def __init__(self, context: Context, build: Callable[[list[Any]], None]):
        self._context = context
        self._build = build

    def variables_for(self, gradients: list[Any], variables: Any) -> list[Any]:
        """Returns the variables of gradients: those given, or those of `build`.

        Raises:
          ValueError: there are more gradients than variables, or fewer.
        """
        title = self._context.title
        if variables is not None:
            variables = list(variables)
            if len(gradients) != len(variables):
                raise ValueError(
                    f"{title} got {len(gradients)} gradients for {len(variables)} variables. "
                    "Give one gradient for each; `None` where there is none."
                )
            return variables
        variables = self._context.store.given
        if len(gradients) != len(variables):
            raise ValueError(
                f"{title} got {len(gradients)} gradients without variables, but was built with "
                f"{len(variables)} variables. Give one gradient for each, or pass "
                "`trainable_variables`."
            )
        return variables

    def entry_of(self, variable: Any) -> VariableState:
        """Returns the entry of a variable.

        Raises:
          ValueError: the optimizer was not built with it.
        """
        entry = self._context.store.find(self._context.keras.unwrap(variable))
        if entry is None:
            compute_dtype(self._context.keras.unwrap(variable), path_of(variable))
            raise ValueError(
                f"{self._context.title} does not know the variable {path_of(variable)!r} "
                f"(shape {variable.shape}). Call `optimizer.build(variables)` with it and all "
                "the others first; the state of those already known is kept."
            )
        return entry

    def entries_of(self, gradients: list[Any], variables: list[Any]) -> list[VariableState]:
        """Returns the entries that have a gradient, after checking all of them.

        A warning names the variables that have none.
        """
        self.admit(gradients, variables)
        gradients = self.learning(gradients, variables)
        pairs = list(zip(gradients, variables))
        missing = [path_of(v) for g, v in pairs if g is None and not self._is_frozen(v)]
        if missing:
            warnings.warn(
                f"{self._context.title}: no gradient for {', '.join(missing)}; they stay as "
                "they are.",
                stacklevel=5,
            )
        return [self.entry_of(v) for gradient, v in pairs if gradient is not None]

    def learning(self, gradients: list[Any], variables: list[Any]) -> list[Any]:
        """Returns the gradients, `None` for variables of a group that does not move."""
        if not self._context.store.frozen:
            return gradients
        return [None if self._is_frozen(v) else g for g, v in zip(gradients, variables)]

    def _is_frozen(self, variable: Any) -> bool:
        """Says whether a variable that `build` was given belongs to a group that stays."""
        frozen = self._context.store.frozen
        native = self._context.keras.unwrap(variable) if frozen else None
        return native is not None and id(distribution.container(native)) in frozen

    def absent(self, entries: list[VariableState]) -> list[VariableState]:
        """Returns the entries that have no gradient, but may have gathered some before.

        Their variables were given without one, or not at all. What is frozen stays as it is.
        """
        present = {id(entry) for entry in entries}
        return [
            e
            for e in self._context.store.tracked
            if e.accumulator is not None and id(e) not in present and e.public.trainable
        ]

    def admit(self, gradients: list[Any], variables: list[Any]) -> None:
        """Checks what was given, and makes slots of variables that have none yet.

        Raises:
          ValueError: a variable is given twice or cannot be updated, there is no gradient at
            all, or this is not where the optimizer's replicas are.
        """
        context = self._context
        distribution.check_place(context.variables.strategy, context.algorithm.name)
        natives = [distribution.container(context.keras.unwrap(v)) for v in variables]
        seen: set[int] = set()
        for variable, native, gradient in zip(variables, natives, gradients):
            if id(native) in seen:
                raise ValueError(
                    f"{context.title}: variable {path_of(variable)!r} was given twice in one "
                    "call. Add its gradients up and give it once."
                )
            seen.add(id(native))
            if gradient is not None:
                compute_dtype(native, path_of(variable))
        if all(gradient is None for gradient in gradients):
            raise ValueError(
                f"{context.title}: no gradient for any variable. Variables: "
                f"{', '.join(map(path_of, variables))}. Check that the loss depends on them "
                "and that it was computed under the tape."
            )
        if not context.store.is_built:
            with tf.init_scope():
                self._build(variables)
        elif any(context.store.place(native) is None for native in natives):
            self._extend(variables, natives)
        context.store.awaited.take(distribution.local(context.store.iterations))

    def _extend(self, variables: list[Any], natives: list[tf.Variable]) -> None:
        """Makes slots of variables that came after `build`; all others keep theirs."""
        store = self._context.store
        known = store.given
        new = [v for v, native in zip(variables, natives) if store.place(native) is None]
        self._context.keras.will_extend()
        with tf.init_scope():
            is_all = len(variables) == len(known) + len(new)
            self._build(variables if is_all else [*known, *new])
        tf.get_logger().info(
            "%s: %d of the %d variables that got gradients are new, the first is %r. They have "
            "slots now; those of the %d others it knows stay as they are.",
            *(self._context.title, len(new), len(variables), path_of(new[0]), len(known)),
        )
