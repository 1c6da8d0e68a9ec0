"""Variables that a class makes by itself: parts of the state."""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking

_PREFIX = "own/"  # of their names in the state


class OwnVariables:
    """Takes such variables into the state of an optimizer.

    Args:
      owner: the optimizer.
      context: what its parts share.
      load_pending: loads state that waits for them.
    """

    def __init__(self, owner: Any, context: Context, load_pending: Callable[[], None]):
        self._owner = owner
        self._context = context
        self._load_pending = load_pending

    def find(self) -> None:
        """Adds those that are attributes of the optimizer, where its Keras tracks such."""
        for name, variable in self._context.keras.own_variables():
            self.take_in(variable, name)

    def take_in(self, variable: Any, name: str = "variable") -> None:
        """Adds a variable to the state, unless it is there or is one of the model's.

        Args:
          variable: the variable.
          name: what it is called.
        """
        context = self._context
        native = distribution.container(context.keras.unwrap(variable))
        if id(native) in context.variables.public or context.store.place(native) is not None:
            return
        name = context.store.unique_name(_PREFIX + name)
        with tf.init_scope():
            first = native.numpy()
        context.store.extra.append(native)
        context.store.starts[id(native)] = lambda: tf.constant(first, native.dtype)
        context.store.named[name] = native
        context.variables.public[id(native)] = variable
        tracking.track(self._owner, name, variable)
        self._load_pending()

    def disown(self, variable: Any) -> None:
        """Takes a variable that was added to the state out of it."""
        context = self._context
        native, store = distribution.container(context.keras.unwrap(variable)), context.store
        for name, known in list(store.named.items()):
            if known is native and name.startswith(_PREFIX):
                store.extra[:] = [v for v in store.extra if v is not native]
                context.variables.retire(native, name)


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
