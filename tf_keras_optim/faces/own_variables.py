"""Variables that a class makes by itself, and the counter that it sets: parts of the state."""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import distribution
from tf_keras_optim.engine import tensorflow_private_tracking as tracking
from tf_keras_optim.engine.store import Store

_PREFIX = "own/"  # of their names in the state


class OwnVariables:
    """The part of an optimizer that takes such variables into its state."""

    _store: Store
    _public: dict[int, Any]
    _unwrap: Callable[[Any], tf.Variable]
    _retire: Callable[[tf.Variable, str], None]
    _publish: Callable[..., Any]
    _forget_steps: Callable[[], None]
    _load_waiting: Callable[..., None]
    _title: Callable[[], str]

    def _adopt(self, variable: Any, name: str = "variable") -> None:
        """Adds a variable to the state, unless it is there or is one of the model's.

        Args:
          variable: the variable.
          name: what it is called.
        """
        native, store = distribution.container(self._unwrap(variable)), self._store
        if id(native) in self._public or store.place(native) is not None:
            return
        name = store.unique_name(_PREFIX + name)
        with tf.init_scope():
            first = native.numpy()
        store.extra.append(native)
        store.starts[id(native)] = lambda: tf.constant(first, native.dtype)
        store.named[name] = native
        self._public[id(native)] = variable
        tracking.track(self, name, variable)
        if hasattr(self, "_execution"):
            self._load_waiting()

    def _disown(self, variable: Any) -> None:
        """Takes a variable that was added to the state out of it."""
        native = distribution.container(self._unwrap(variable))
        for name, known in list(self._store.named.items()):
            if known is native and name.startswith(_PREFIX):
                self._store.extra[:] = [v for v in self._store.extra if v is not native]
                self._retire(native, name)

    def _new_entry(self, variable: Any, native: tf.Variable) -> Any:
        # A class may have had the model's variables as an attribute before it was built.
        self._disown(native)
        return super()._new_entry(variable, native)  # type: ignore[misc]

    @property
    def _iterations(self) -> Any:
        """The variable that counts calls, accumulated ones included."""
        return self._public[id(self._store.iterations)]

    @_iterations.setter
    def _iterations(self, variable: Any) -> None:
        native = distribution.container(self._unwrap(variable))
        if native.dtype != tf.int64 or native.shape.rank != 0:
            raise ValueError(
                f"{self._title()}: `iterations` must be an int64 variable without dimensions. "
                f"Received: {variable!r}."
            )
        if native is self._store.iterations:
            return
        self._retire(self._store.iterations, "_iterations")
        self._store.iterations = native
        self._store.starts[id(native)] = lambda: tf.zeros([], tf.int64)
        self._publish("_iterations", native)
        self._forget_steps()


def within(value: Any, name: str, kind: type) -> Iterator[tuple[str, Any]]:
    """Yields the variables in an attribute, each with a name.

    Args:
      value: the attribute: a variable, or lists, tuples, dicts and sets of such.
      name: the attribute's name.
      kind: the class of the variables.
    """
    if isinstance(value, kind):
        yield name, value
        return
    parts: Any = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = enumerate(value)
    for key, part in parts:
        yield from within(part, f"{name}/{key}", kind)
