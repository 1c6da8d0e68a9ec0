"""What the engine asks of Keras 2 (the package tf_keras)."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
import tf_keras

from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.keras_compat import naming
from tf_keras_optim.keras_compat.keras_private_variables import inside_autocast

schedules = tf_keras.optimizers.schedules


class Keras2Side:
    """What the engine asks of Keras 2, for one optimizer."""

    rate_is_state = False
    averages_from_zero = False  # in Keras 2 they start at the weights
    known_arguments = naming.arguments_of(tf_keras.optimizers.Optimizer)

    def __init__(self, optimizer: Any):
        self._optimizer = optimizer
        self.gives_rate = _takes(type(optimizer).update_step, 4)

    def check_update_step(self) -> None:
        """Refuses an `update_step` with other arguments than it is given in any Keras.

        Raises:
          TypeError: it has others.
        """
        if self.gives_rate or _takes(type(self._optimizer).update_step, 3):
            return
        raise TypeError(
            f"{type(self._optimizer).__name__}.update_step must take two arguments, (gradient, "
            "variable), as in Keras 2, or three, (gradient, variable, learning_rate), as in "
            "Keras 3."
        )

    def unwrap(self, variable: Any) -> tf.Variable:
        """Returns a TensorFlow variable as it is, without what casts it when it is read.

        Raises:
          TypeError: it is none, or belongs to a model of Keras 3.
        """
        variable = inside_autocast(variable)
        if not isinstance(variable, tf.Variable):
            if isinstance(getattr(variable, "value", None), tf.Variable):
                raise TypeError(
                    f"Variable {variable.path!r} belongs to a Keras 3 model, but "
                    f"{self._optimizer.tko.title} is bound to tf_keras. "
                    f"{naming.HOW_TO_BIND_TO_KERAS_3}"
                )
            raise TypeError(
                f"{self._optimizer.tko.title} updates tf.Variable objects. "
                f"Received: {variable!r} (of type {type(variable).__name__})."
            )
        return variable

    def wrap(self, variable: tf.Variable, name: str) -> tf.Variable:
        """Returns a state variable, which Keras 2 sees as it is."""
        return variable

    def initial_value(self, initializer: Any, shape: Any, dtype: tf.DType) -> tf.Tensor:
        """Returns the tensor that a Keras initializer gives."""
        initializer = tf_keras.initializers.get(initializer)
        return tf.convert_to_tensor(initializer(tuple(shape), dtype=dtype), dtype)

    def is_schedule(self, value: Any) -> bool:
        """Says whether a value is one of Keras 2's learning-rate schedules."""
        return isinstance(value, schedules.LearningRateSchedule)

    def float_type(self) -> str:
        """Returns the dtype in which Keras keeps numbers, e.g. "float32"."""
        return tf_keras.backend.floatx()

    def automatic_name(self) -> str:
        """Returns the name that Keras gives to an optimizer without one."""
        return type(self._optimizer).__name__

    def shown_rate(self, rate: tf.Tensor, set_rate: Callable[[Any], None]) -> Any:
        """Returns the rate of a schedule or callable as Keras' callbacks read it."""
        # Callbacks assign to what they read, which would be a variable in Keras.
        rate = tf.identity(rate)
        rate.assign = set_rate
        return rate

    def own_variables(self) -> Iterable[tuple[str, Any]]:
        """Returns nothing: Keras 2 does not look for variables in attributes."""
        return ()

    def will_extend(self) -> None:
        """Lets a class that makes its slots in its own `build` make those that are missing."""
        tracking.keep_untracked(self._optimizer, "_built_by_class", False)

    def serialize(self, value: Any) -> Any:
        """Returns a schedule or callable as Keras writes it into a config."""
        if self.is_schedule(value):
            return schedules.serialize(value)
        return tf_keras.saving.serialize_keras_object(value)


def _takes(method: Any, number: int) -> bool:
    """Says whether a function takes so many arguments by position."""
    try:
        inspect.signature(method).bind(*range(number))
    except TypeError:
        return False
    return True
