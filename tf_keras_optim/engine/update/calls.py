"""Calls of traced functions inside the trace of a step, looked up once for each signature.

What `tf.function` does with its arguments at each call takes longer than adding the operation
of the call. In one graph the same function, given tensors and variables of the same kinds, is
the same trace, so from the third such call on it is called directly.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.tensorflow import placement, tensorflow_private

_ONCE = object()  # stands for a signature that was called once


class Calls:
    """Calls functions whose arguments are variables, tensors, `None` and dicts of such."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._known: dict[tuple, Any] = {}

    def call(self, function: Any, arguments: Sequence[Any]) -> Any:
        """Calls a function, where that is possible directly.

        Args:
          function: what `tf.function` returned.
          arguments: its arguments by position.

        Returns:
          What the function returns.
        """
        graph = tf.compat.v1.get_default_graph()
        plain = tf.executing_eagerly() or tf.distribute.has_strategy()
        signature = None if plain or placement.is_portable() else _signature(arguments)
        if signature is None:
            return function(*arguments)
        if self._graph is None or self._graph() is not graph:
            self._graph, self._known = weakref.ref(graph), {}
        kinds, tensors = signature
        key = (function, *kinds)
        found = self._known.get(key)
        if found is None:
            self._known[key] = _ONCE
            return function(*arguments)
        if found is _ONCE:
            found = self._known[key] = _looked_up(function, arguments)
        call, captured = found
        return function(*arguments) if call is None else call(tensors, captured)


def _looked_up(function: Any, arguments: Sequence[Any]) -> tuple[Any, Any]:
    """Returns what calls the trace for some arguments directly; `None` where nothing does."""
    count = function.experimental_get_tracing_count()
    traced = function.get_concrete_function(*arguments)
    if function.experimental_get_tracing_count() != count:
        return None, None  # it was traced for something else that is not in the signature
    return tensorflow_private.direct_call(traced)


def _signature(arguments: Sequence[Any]) -> tuple[list[Any], list[tf.Tensor]] | None:
    """Returns the kinds of arguments and their tensors, `None` where one is neither."""
    kinds: list[Any] = []
    tensors: list[tf.Tensor] = []
    for argument in arguments:
        named: Any = ((None, argument),)
        if isinstance(argument, dict):
            kinds.append(len(argument))
            named = [(name, argument[name]) for name in sorted(argument)]
        for name, value in named:
            shape: Any = None if value is None else value.shape
            if isinstance(value, tf.Variable):
                kinds += (name, type(value), value.trainable, value.dtype, *shape)
                tensors.append(value.handle)
            elif value is None:
                kinds.append(None)
            elif isinstance(value, tf.Tensor) and shape.is_fully_defined():
                kinds += (name, value.dtype, *shape)
                tensors.append(value)
            else:
                return None
    return kinds, tensors
