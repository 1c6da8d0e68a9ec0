"""Members that `__init__` of Keras' optimizers makes, which classes above it use.

Keras' own `__init__` is not run. What is here is read and called by classes that people write;
nothing of this package needs it.
"""

from typing import Any

from tf_keras_optim.engine.methods.views import Shown
from tf_keras_optim.engine.parts import Parts
from tf_keras_optim.engine.state import own_variables


def _places(optimizer: Any) -> dict[Any, int]:
    """Returns the places of the model variables, by the keys that Keras gives them."""
    given, views = optimizer.tko.store.given, optimizer.tko.views
    version, known = tuple(map(id, given)), views.get("places")
    if known is None or known[0] != version:
        found = {optimizer._var_key(v): place for place, v in enumerate(given)}
        known = views["places"] = (version, found)
    return known[1]


def updates_averages(cls: type, keras_class: type) -> bool:
    """Says whether a class has its own way to update the moving averages of weights."""
    name = "_update_model_variables_moving_average"
    return getattr(cls, name, None) is not getattr(keras_class, name, None)


class VariableTracker:
    """What `_tracker` is in Keras 3: it adds variables to the state, and takes them away.

    Args:
      optimizer: whose state it is.
      kind: the class of the variables that are found in attributes.
    """

    def __init__(self, optimizer: Any, kind: type):
        self._optimizer, self._kind = optimizer, kind
        self.locked = False

    def lock(self, msg: str | None = None) -> None:
        """Does nothing: variables can be added at any time."""

    def unlock(self) -> None:
        """Does nothing: variables can be added at any time."""

    def add_to_store(self, store_name: str, value: Any) -> None:
        """Adds a variable to the state."""
        self._optimizer.tko.own.take_in(value)

    def is_in_store(self, store_name: str, value: Any) -> bool:
        """Says whether a variable is part of the state."""
        return (
            id(self._optimizer.tko.keras.unwrap(value)) in self._optimizer.tko.variables.public
        )

    def track(self, attr: Any) -> Any:
        """Adds the variables in what is to become an attribute, and returns that."""
        for name, variable in own_variables.within(attr, "variable", self._kind):
            self._optimizer.tko.own.take_in(variable, name)
        return attr

    def untrack(self, value: Any) -> None:
        """Takes a variable out of the state."""
        self._optimizer.tko.own.disown(value)


class MembersInKeras3:
    """The members in Keras 3."""

    tko: Parts
    _trainable_variables_indices = Shown(_places, "Places of the model variables, by key.")

    def _track_variable(self, variable: Any) -> None:
        """Adds a variable that a class has made by itself to the state."""
        self.tko.own.take_in(variable)

    def _untrack_variable(self, variable: Any) -> None:
        """Takes such a variable out of the state."""
        self.tko.own.disown(variable)


class MembersInKeras2:
    """The members in Keras 2."""

    _index_dict = Shown(_places, "Places of the model variables, by key.")

    def _build_index_dict(self, var_list: Any) -> None:
        """Does nothing: `_index_dict` knows the variables that `build` was given."""
