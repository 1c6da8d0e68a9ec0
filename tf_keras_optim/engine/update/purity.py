"""Whether a method of an algorithm is pure: it must not assign, nor keep what it is given."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.seen import class_of, itself
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking

# How the types of TensorFlow's operations begin that write into a variable.
_WRITES = (
    "Assign",
    "ResourceApply",
    "ResourceSparseApply",
    "ResourceScatter",
    "ResourceStrided",
)
_PLAIN = (bool, int, float, str, type(None))  # hyperparameters, as a rule


@contextlib.contextmanager
def watched(algorithm: Any, method: str) -> Iterator[None]:
    """Refuses assignments, and tensors kept on the optimizer, while a method is traced.

    Args:
      algorithm: whose method it is.
      method: the name of the method that is called in the block.

    Raises:
      TypeError: the method assigned a variable, or an attribute holds one of its tensors.
    """
    if tf.executing_eagerly():
        yield
        return
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    yield
    title = f"{class_of(algorithm).__name__}.{method}"
    for operation in graph.get_operations()[before:]:
        if operation.type.startswith(_WRITES):
            raise TypeError(
                f"`{title}` must be pure, but it assigns a variable ({operation.type} on "
                f"{operation.inputs[0].name!r}). Keep what changes in a slot: declare it in "
                "`slots` and return its new value. Or write the algorithm as an `update_step`, "
                "which may assign."
            )
    for name, value in tracking.attributes(itself(algorithm)).items():
        if not isinstance(value, _PLAIN) and any(map(_is_symbolic, _parts(value))):
            raise TypeError(
                f"`{title}` must be pure, but the attribute {name!r} holds a tensor of the "
                "graph that is traced, which has no value outside of it. Keep it in a slot: "
                "declare it in `slots` and return its new value."
            )


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _is_symbolic(value: Any) -> bool:
    is_tensor = isinstance(value, tf.Tensor) and not isinstance(value, tf.Variable)
    return is_tensor and not hasattr(value, "numpy")
