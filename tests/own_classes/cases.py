"""What a class is, and the list of all."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

KERAS = 2 if tf.keras.optimizers.Optimizer.__module__.startswith("tf_keras") else 3
_CASES: dict[str, "Case"] = {}


@dataclasses.dataclass(frozen=True)
class Case:
    """A class.

    Attributes:
      make: returns it, from a module with optimizers to derive it from.
      arguments: what it is made with.
      options: whether it takes Keras' options (`use_ema`, ...).
      prepare: called with an optimizer that was made.
    """

    make: Callable[[Any], type]
    arguments: dict
    options: bool
    prepare: Callable[[Any], None]

    @property
    def name(self) -> str:
        return self.make.__name__


def case(*, kerases=(2, 3), options=True, prepare=lambda optimizer: None, **arguments):
    """Adds a class to the list where the running Keras is one of those named."""

    def add(make):
        if KERAS in kerases:
            _CASES[make.__name__] = Case(make, arguments, options, prepare)
        return make

    return add


def known():
    """Returns the classes of the modules that were imported, for the running Keras, by name."""
    return dict(_CASES)


def rate_of(optimizer, learning_rate):
    """Returns the rate of a step: Keras 2 does not give it to `update_step`."""
    return optimizer.learning_rate if learning_rate is None else learning_rate


def descend(optimizer, gradient, variable, learning_rate, factor=1.0):
    """Takes a plain step."""
    rate = tf.cast(rate_of(optimizer, learning_rate), variable.dtype)
    variable.assign_sub(rate * gradient * factor)
