"""The state under the names that Keras, its callbacks and subclasses read."""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.composed import Composed
from tf_keras_optim.engine.options import calls_per_update
from tf_keras_optim.engine.parts import Parts
from tf_keras_optim.engine.state import inventory
from tf_keras_optim.engine.state.store import VariableState


class Shown:
    """An attribute that is computed, until a class or a user sets one of that name.

    Args:
      make: returns what is read, from the optimizer.
      doc: what it is.
    """

    def __init__(self, make: Callable[[Any], Any], doc: str = ""):
        self._make = make
        self.__doc__ = doc

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._make(instance)


class SlotList(Shown):
    """The slots of one name as a list: one for each variable that `build` was given.

    `None` stands where a variable has no such slot; the list is empty where none has.

    Args:
      slot: the name of the slot.
    """

    def __init__(self, slot: str):
        super().__init__(self._read, f"Slots {slot!r}, in the order of the variables.")
        self._slot = slot

    def _read(self, optimizer: Composed) -> list[Any]:
        if not optimizer.tko.store.is_built:
            raise AttributeError(
                f"{optimizer.tko.title} has no slots yet. Call `optimizer.build(variables)` "
                "first."
            )
        found = _by_place(optimizer.tko, self._slot, lambda entry: entry.slots.get(self._slot))
        return found if any(slot is not None for slot in found) else []


class StepSlotView(Shown):
    """A number that is carried from step to step, as the variable that holds it.

    Args:
      slot: the name of the step slot.
      doc: what it is.
    """

    def __init__(self, slot: str, doc: str):
        super().__init__(self._read, doc)
        self._slot = slot

    def _read(self, optimizer: Composed) -> Any:
        parts = optimizer.tko
        if parts.whole is not None:
            raise AttributeError(
                f"{parts.title} updates a group of variables and has no {self._slot!r} itself. "
                f"The optimizer that has the group keeps it, as 'PATTERN/{self._slot}' among "
                'the "scalars" of its `state_dict()`.'
            )
        if self._slot not in parts.store.step_slots:
            raise AttributeError(
                f"{parts.title} has no {self._slot!r} yet. Call `optimizer.build(variables)` "
                "first."
            )
        return parts.variables.public[id(parts.store.step_slots[self._slot])]


class StateList(list):
    """The state variables; what is added to the list is kept with them.

    Args:
      variables: the state.
      add: is called with each variable that is added.
    """

    def __init__(self, variables: Iterable[Any], add: Callable[[Any], None]):
        super().__init__(variables)
        self._add = add

    def append(self, variable: Any) -> None:
        """Adds a variable to the state."""
        self._add(variable)
        super().append(variable)

    def extend(self, variables: Iterable[Any]) -> None:
        """Adds variables to the state."""
        for variable in variables:
            self.append(variable)

    def __iadd__(self, variables: Iterable[Any]) -> "StateList":  # type: ignore[misc]
        self.extend(variables)
        return self


def _averages(optimizer: Composed) -> list[Any]:
    if not (optimizer.use_ema and optimizer.tko.store.is_built):
        raise AttributeError("There are no averages: `use_ema` is off, or `build` not done.")
    return _by_place(optimizer.tko, "average", lambda entry: entry.average)


def _accumulators(optimizer: Composed) -> list[Any]:
    if calls_per_update(optimizer.tko.context.options) == 1 or not optimizer.tko.store.is_built:
        raise AttributeError("There are no accumulators.")
    return _by_place(optimizer.tko, "accumulator", lambda entry: entry.accumulator)


def _by_place(
    parts: Parts, kind: str, of: Callable[[VariableState], tf.Variable | None]
) -> list[Any]:
    """Returns what is kept of each variable that `build` was given, or `None`.

    Args:
      parts: the parts of the optimizer.
      kind: what it is.
      of: returns it from a variable's entry.
    """
    store, public = parts.store, parts.variables.public
    given = store.given
    slots = sum(len(entry.slots) for entry in store.tracked)
    version = (len(store.named), slots, *map(id, given))
    known = parts.views.get("slots")
    if known is None or known[0] != version:
        found: dict[str, list[Any]] = {}
        known = parts.views["slots"] = (version, found)
    if kind not in known[1]:
        entries = [store.find(parts.keras.unwrap(variable)) for variable in given]
        kept = [None if entry is None else of(entry) for entry in entries]
        known[1][kind] = [None if v is None else public[id(v)] for v in kept]
    return list(known[1][kind])


class Views(Composed):
    """The part of an optimizer that lists its state variables."""

    @property
    def _variables(self) -> list[Any]:
        public, add = self.tko.variables.public, self.tko.own.take_in
        listed = inventory.listed(self.tko.context)
        return StateList((public[id(variable)] for variable in listed), add)

    @_variables.setter
    def _variables(self, variables: Iterable[Any]) -> None:
        # As after `optimizer._variables += [variable]`.
        for variable in variables:
            self.tko.own.take_in(variable)

    @property
    def variables(self) -> list[Any]:
        """The state: the counter, the learning rate (Keras 3), then the slots."""
        return self._variables

    _trainable_variables = Shown(lambda optimizer: optimizer.tko.store.given)
    _model_variables_moving_average = Shown(_averages)
    _accumulated_gradients = Shown(_accumulators)
