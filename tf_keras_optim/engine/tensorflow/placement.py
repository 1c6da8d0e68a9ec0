"""Where operations on a variable run: on its device, by name or wherever it will be."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.tensorflow import distribution

_portable = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Traces steps in this block that run where their variables are when they are loaded."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def is_portable() -> bool:
    """Whether such steps are traced now."""
    return _portable.get()


def beside(variable: tf.Variable) -> Any:
    """Returns a context in which operations are placed on a variable's device."""
    if not _portable.get():
        return tf.device(variable.device)
    # What XLA compiles as a whole is on one device.
    return contextlib.nullcontext() if distribution.in_xla() else _with_handle(variable)


def where(held: tf.Tensor | tf.Variable) -> Any:
    """Returns a context in which operations are placed where a tensor or variable is.

    Only in a step that is taken once for all replicas; else a replica's device is the place.
    """
    if not (distribution.stands() and held.device):
        return contextlib.nullcontext()
    return tf.device(held.device)


@contextlib.contextmanager
def _with_handle(variable: tf.Variable) -> Iterator[None]:
    # TensorFlow keeps the identity of a handle where the variable is, and a compiled function,
    # which it would leave on the default device, beside the identity.
    with tf.device(None):
        handle = tf.identity(variable.handle)
        with tf.compat.v1.colocate_with(handle.op, ignore_existing=True):
            yield
