"""The state under the names that Keras, its callbacks and subclasses read."""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import accumulation
from tf_keras_optim.engine.store import Store, Tracked
from tf_keras_optim.engine.tensorflow_private_tracking import keep_untracked


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

    def _read(self, optimizer: Any) -> list[Any]:
        if not optimizer.built:
            raise AttributeError(
                f"{optimizer._title()} has no slots yet. Call `optimizer.build(variables)` "
                "first."
            )
        found = optimizer._by_place(self._slot, lambda entry: entry.slots.get(self._slot))
        return found if any(slot is not None for slot in found) else []


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


def _averages(optimizer: Any) -> list[Any]:
    if not (optimizer.use_ema and optimizer.built):
        raise AttributeError("There are no averages: `use_ema` is off, or `build` not done.")
    return optimizer._by_place("average", lambda entry: entry.average)


def _accumulators(optimizer: Any) -> list[Any]:
    if accumulation.wanted(optimizer) == 1 or not optimizer.built:
        raise AttributeError("There are no accumulators.")
    return optimizer._by_place("accumulator", lambda entry: entry.accumulator)


class Views:
    """The part of an optimizer that lists its state variables."""

    use_ema: bool
    gradient_accumulation_steps: int | None
    built: bool
    _store: Store
    _public: dict[int, Any]
    _unwrap: Callable[[Any], tf.Variable]
    _rate_is_state = True  # whether `variables` lists the learning rate

    def _state_variables(self) -> list[tf.Variable]:
        self._find_own_variables()
        rate = [] if self._store.rate is None or not self._rate_is_state else [self._store.rate]
        return [self._store.iterations, *rate, *self._store.state()]

    def _named_state(self) -> dict[str, tf.Variable]:
        return self._store.by_name()

    def _find_own_variables(self) -> None:
        """Adds variables that a class has made by itself, where this Keras tracks them."""

    def _adopt(self, variable: Any, name: str = "variable") -> None:
        """Adds a variable that a class has made by itself to the state."""
        raise NotImplementedError

    @property
    def _variables(self) -> list[Any]:
        found = self._state_variables()
        return StateList((self._public[id(variable)] for variable in found), self._adopt)

    @_variables.setter
    def _variables(self, variables: Iterable[Any]) -> None:
        # As after `optimizer._variables += [variable]`.
        for variable in variables:
            self._adopt(variable)

    @property
    def variables(self) -> list[Any]:
        """The state: the counter, the learning rate (Keras 3), then the slots."""
        return self._variables

    _trainable_variables = Shown(lambda optimizer: optimizer._store.given)

    def _by_place(self, kind: str, of: Callable[[Tracked], tf.Variable | None]) -> list[Any]:
        """Returns what is kept of each variable that `build` was given, or `None`.

        Args:
          kind: what it is.
          of: returns it from a variable's entry.
        """
        given = self._store.given
        slots = sum(len(entry.slots) for entry in self._store.tracked)
        version = (len(self._store.named), slots, *map(id, given))
        known: tuple[tuple, dict[str, list]] | None = getattr(self, "_tko_views", None)
        if known is None or known[0] != version:
            known = (version, {})
            keep_untracked(self, "_tko_views", known)
        if kind not in known[1]:
            entries = [self._store.find(self._unwrap(variable)) for variable in given]
            kept = [None if entry is None else of(entry) for entry in entries]
            known[1][kind] = [None if v is None else self._public[id(v)] for v in kept]
        return list(known[1][kind])

    _model_variables_moving_average = Shown(_averages)
    _accumulated_gradients = Shown(_accumulators)
