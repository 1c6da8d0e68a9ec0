"""What training changes, kept in a block and put back when it ends, however it ends."""

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim.saving.rollback as rollback
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.keras_compat.keras_private_variables import inside_autocast
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers.base import Optimizer


@contextlib.contextmanager
def put_back(things: Iterable[Any], title: str) -> Iterator[None]:
    """Puts things back to what they are now when the block ends, however it ends.

    Optimizers of this package by their state dicts, all else by variables; each component of a
    variable with several replicas for itself. So are generators of random numbers: those in
    models, TensorFlow's global one, Python's and NumPy's.

    Args:
      things: models (without their optimizers), layers, optimizers, metrics, generators of
        random numbers, variables.
      title: what messages name.

    Raises:
      TypeError: one is none of these.
      ValueError: a model or an optimizer has no variables yet.
      RuntimeError: (at the end) a model has got variables meanwhile.
    """
    given = list(things)
    models = [thing for thing in given if isinstance(thing, keras.layers.Layer)]
    optimizers = [found for thing in given if (found := _own_optimizer(thing)) is not None]
    for thing in (*models, *optimizers):
        _check_built(thing, title)
    variables = [v for thing in given for v in _variables_of(thing, title)]
    variables += [generator.state for generator in _global_generator()]
    natives = {id(part): part for v in variables for part in _parts(v)}
    known = {id(variable) for variable in variables}
    states = [(optimizer, optimizer.state_dict()) for optimizer in optimizers]
    with contextlib.ExitStack() as stack:
        stack.callback(_load, states)  # last: what is matched by the values of weights
        stack.enter_context(rollback.in_any_case(natives.values()))
        stack.callback(_reset_new_metrics, models, known)
        stack.enter_context(_generators_of_python())
        yield
    new = [v for model in models for v in model.variables if id(v) not in known]
    if new:
        names = ", ".join(repr(v.name) for v in new[:5])
        raise RuntimeError(
            f"{title}: {len(new)} variables of the model were made by its first step of "
            f"training ({names}), and hold trained values now. All others are as before. Call "
            "every layer once before."
        )


def _own_optimizer(thing: Any) -> Any:
    """Returns an optimizer of this package, also one in Keras' own wrapper; else `None`."""
    if isinstance(thing, (Optimizer, LossScaleOptimizer)):
        return thing
    inner = getattr(thing, "inner_optimizer", None)
    return inner if isinstance(inner, Optimizer) else None


def _check_built(thing: Any, title: str) -> None:
    """Refuses what has no variables yet.

    Raises:
      ValueError: it has none.
    """
    if not thing.built:
        is_model = isinstance(thing, keras.layers.Layer)
        remedy = "call it on a batch" if is_model else "call `build(trainable_variables)`"
        raise ValueError(
            f"{title}: {thing!r} is not built, so it has no variables that could be put back. "
            f"Please {remedy} first."
        )


def _variables_of(thing: Any, title: str) -> list[Any]:
    """Returns the variables of what was given, other than the state of our optimizers.

    Raises:
      TypeError: it is nothing that has variables.
    """
    if isinstance(thing, (Optimizer, LossScaleOptimizer)):
        return []
    if isinstance(thing, tf.Variable) or isinstance(getattr(thing, "value", None), tf.Variable):
        return [thing]
    if isinstance(thing, keras.layers.Layer):
        metrics = [v for metric in getattr(thing, "metrics", ()) for v in metric.variables]
        generators = [g.state for g in _within(thing, tf.random.Generator)]
        return [*thing.variables, *metrics, *generators]
    if hasattr(thing, "inner_optimizer"):  # Keras' own wrapper has a scale and counters
        return [*thing.variables, *_within(thing, tf.Variable)]
    if hasattr(thing, "variables"):
        return list(thing.variables)
    if hasattr(thing, "state"):  # generators of random numbers
        return [thing.state]
    raise TypeError(
        f"{title}: argument `variables` must hold variables, or what has some: models, "
        f"optimizers, metrics, generators. Received: {thing!r} (of type "
        f"{type(thing).__name__})."
    )


def _within(thing: Any, kind: Any) -> list[Any]:
    """Returns the objects of a class that TensorFlow's checkpoints find in another one."""
    return [part for part in tf.train.TrackableView(thing).descendants()
            if isinstance(part, kind)]  # fmt: skip


def _global_generator() -> list[tf.random.Generator]:
    """Returns TensorFlow's global generator; where none may be made, there is none."""
    try:
        return [tf.random.get_global_generator()]
    except RuntimeError:  # under `enable_op_determinism`, before one was set
        return []


def _parts(variable: Any) -> list[tf.Variable]:
    """Returns the components of a variable that hold numbers."""
    native = inside_autocast(variable)
    native = native if isinstance(native, tf.Variable) else native.value
    if distribution.is_shared(native):
        native = native.get()
    is_distributed = isinstance(native, tf.distribute.DistributedValues)
    parts = native.values if is_distributed else [native]
    return [p for p in parts if p.dtype.is_floating or p.dtype.is_integer
            or p.dtype.is_bool or p.dtype.is_complex]  # fmt: skip


def _load(states: Iterable[tuple[Any, dict[str, Any]]]) -> None:
    for optimizer, state in states:
        optimizer.load_state_dict(state)


def _reset_new_metrics(models: Iterable[Any], known: set[int]) -> None:
    """Resets the metrics whose variables were made meanwhile."""
    for model in models:
        for metric in getattr(model, "metrics", ()):
            if any(id(variable) not in known for variable in metric.variables):
                metric.reset_state()


@contextlib.contextmanager
def _generators_of_python() -> Iterator[None]:
    """Keeps the states of Python's and NumPy's global generators."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
