"""Steps of the optimizers that run in this process: ours, Keras 3's and tf_keras'."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim.optimizers.records import records
from tools.bench.results import OURS

KERAS_3, TF_KERAS, LEGACY = "Keras 3", "tf_keras", "tf_keras legacy"
MODULES = {
    KERAS_3: "keras.optimizers",
    TF_KERAS: "tf_keras.optimizers",
    LEGACY: "tf_keras.optimizers.legacy",
}
IS_KERAS_2 = tf.keras.optimizers.Optimizer.__module__.startswith("tf_keras")
RUNNING = TF_KERAS if IS_KERAS_2 else KERAS_3  # the Keras that is `tf.keras`


def keras_sides(name: str) -> tuple[list[str], dict[str, str]]:
    """Returns the Keras that have an optimizer, and why others do not take part."""
    sides, absent = [], {}
    for side, module in MODULES.items():
        if importlib.util.find_spec(module.split(".")[0]) is None:
            absent[side] = "not installed"
        elif not hasattr(importlib.import_module(module), class_name(name)):
            absent[side] = f"has no {class_name(name)}"
        else:
            sides.append(side)
    return sides, absent


def class_name(name: str) -> str:
    """Returns the class name that all of Keras use, for example "AdamW"."""
    record = records()[name]
    return record.keras.name or record.name


def make_optimizer(side: str, name: str, **options: Any) -> Any:
    """Returns a new optimizer; every side gets the same rate, and has the same decay.

    Args:
      side: `OURS` or a key of `MODULES`.
      name: name of the optimizer in lower case.
      **options: further arguments, ours and Keras' alike.
    """
    library: Any = tko
    arguments = {"learning_rate": 1e-3, **options}
    if side == OURS:
        arguments |= records()[name].keras.fixed
    else:
        library = importlib.import_module(MODULES[side])
    return getattr(library, class_name(name))(**arguments)


def scaled(side: str, optimizer: Any) -> Any:
    """Returns an optimizer inside the side's own LossScaleOptimizer."""
    if side == OURS:
        return tko.LossScaleOptimizer(optimizer)
    if side == KERAS_3:
        return importlib.import_module(MODULES[side]).LossScaleOptimizer(optimizer)
    return importlib.import_module("tf_keras.mixed_precision").LossScaleOptimizer(optimizer)


def in_mode(function: Callable[..., None], mode: str) -> Callable[..., None]:
    """Returns the function as it is, in `tf.function`, or compiled by XLA."""
    if mode == "eager":
        return function
    return tf.function(function, jit_compile=mode == "xla", autograph=False)


def fresh(values: Iterable[np.ndarray]) -> list[tf.Variable]:
    """Returns a new variable for each value, with a path, which Keras 3's Muon asks for."""
    variables = [tf.Variable(value) for value in values]
    for number, variable in enumerate(variables):
        variable.path = f"variable_{number}"
    return variables


def wait_for(variable: tf.Variable) -> None:
    """Returns once a step has ended; reads one row, not the whole variable."""
    variable.sparse_read([0]).numpy()


def build(optimizer: Any, variables: Sequence[tf.Variable]) -> None:
    """Makes the slots; tf_keras' legacy optimizers can only do so in their first step."""
    if hasattr(optimizer, "build"):
        optimizer.build(variables)


def dense_step(
    optimizer: Any,
    variables: Sequence[tf.Variable],
    gradients: Sequence[tf.Tensor],
    mode: str,
    unscale: bool = False,
) -> Callable[[], None]:
    """Returns a function that applies one step and returns when it has ended.

    Args:
      optimizer: an optimizer without variables.
      variables: what it updates.
      gradients: one for each of them.
      mode: out of `MODES`.
      unscale: whether the gradients are those of a scaled loss; in Keras 2 it is the
        caller who divides them.
    """
    build(optimizer, variables)

    def apply(given: Sequence[tf.Tensor]) -> None:
        if unscale and IS_KERAS_2:
            given = optimizer.get_unscaled_gradients(given)
        optimizer.apply_gradients(list(zip(given, variables)))

    call = in_mode(apply, mode)

    def step() -> None:
        call(gradients)
        wait_for(variables[-1])

    return step
