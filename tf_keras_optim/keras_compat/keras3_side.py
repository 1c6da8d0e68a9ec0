"""What the engine asks of Keras 3 (on TensorFlow)."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from tf_keras_optim.engine.state.own_variables import within
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.keras_compat import naming
from tf_keras_optim.keras_compat.keras_private_members import updates_averages


def automatic_name(class_name: str) -> str:
    """Returns a name that no other object has: "adam", "adam_1", counted with Keras' own."""
    name = naming.snake_case(class_name)
    number = keras.backend.get_uid(name)
    return f"{name}_{number - 1}" if number > 1 else name


class Keras3Side:
    """What the engine asks of Keras 3, for one optimizer."""

    rate_is_state = True
    gives_rate = True
    known_arguments = naming.arguments_of(keras.optimizers.Optimizer)

    def __init__(self, optimizer: Any):
        self._optimizer = optimizer
        # Where Keras' averages start.
        self.averages_from_zero = updates_averages(type(optimizer), keras.optimizers.Optimizer)

    def check_update_step(self) -> None:
        """Refuses an `update_step` that does not take the three arguments it is given.

        Raises:
          TypeError: it has others.
        """
        try:
            inspect.signature(type(self._optimizer).update_step).bind(*range(4))
        except TypeError:
            raise TypeError(
                f"{type(self._optimizer).__name__}.update_step must take three arguments, "
                "(gradient, variable, learning_rate), as in Keras 3. Where it takes two, as in "
                "Keras 2, add the third and use it in place of `self.learning_rate`."
            ) from None

    def unwrap(self, variable: Any) -> tf.Variable:
        """Returns the TensorFlow variable behind a `keras.Variable`, or the variable itself.

        Raises:
          TypeError: it is none of them, or belongs to a model of Keras 2.
        """
        if isinstance(variable, keras.Variable):
            variable = variable.value
        if hasattr(variable, "true_dtype"):  # tf_keras under a mixed precision policy
            raise TypeError(
                f"Variable {variable.name!r} belongs to a tf_keras (Keras 2) model, but "
                f"{self._optimizer.tko.title} is bound to Keras 3. "
                f"{naming.HOW_TO_BIND_TO_KERAS_2}"
            )
        if not isinstance(variable, tf.Variable):
            raise TypeError(
                f"{self._optimizer.tko.title} updates keras.Variable or tf.Variable objects. "
                f"Received: {variable!r} (of type {type(variable).__name__})."
            )
        return variable

    def wrap(self, variable: tf.Variable, name: str) -> keras.Variable:
        """Returns a `keras.Variable` around the memory of a state variable."""
        with keras.name_scope(self._optimizer.name):
            public = keras.Variable(
                variable,
                dtype=variable.dtype.name,
                trainable=False,
                autocast=False,
                name=name.replace("/", "_"),
            )
        if public.value is not variable:
            raise ImportError(
                f"Keras {keras.__version__} copies the variables it wraps, so callbacks would "
                "not see the optimizer's state. Install Keras 3.10 or later."
            )
        return public

    def initial_value(self, initializer: Any, shape: Any, dtype: tf.DType) -> tf.Tensor:
        """Returns the tensor that a Keras initializer gives."""
        initializer = keras.initializers.get(initializer)
        return tf.convert_to_tensor(initializer(tuple(shape), dtype=dtype.name), dtype)

    def is_schedule(self, value: Any) -> bool:
        """Says whether a value is one of Keras 3's learning-rate schedules."""
        return isinstance(value, keras.optimizers.schedules.LearningRateSchedule)

    def float_type(self) -> str:
        """Returns the dtype in which Keras keeps numbers, e.g. "float32"."""
        return keras.backend.floatx()

    def automatic_name(self) -> str:
        """Returns the name that Keras gives to an optimizer without one."""
        return automatic_name(type(self._optimizer).__name__)

    def shown_rate(self, rate: tf.Tensor, set_rate: Callable[[Any], None]) -> Any:
        """Returns the rate of a schedule or callable as Keras' callbacks read it."""
        return rate

    def own_variables(self) -> Iterable[tuple[str, Any]]:
        """Yields the `keras.Variable`s that are attributes of the optimizer, with names."""
        for name, value in list(tracking.attributes(self._optimizer).items()):
            if not name.startswith(("_self_", "_tko_")):
                yield from within(value, name, keras.Variable)

    def will_extend(self) -> None:
        """Does nothing: in Keras 3 the base class says whether there are slots."""

    def serialize(self, value: Any) -> Any:
        """Returns a schedule or callable as Keras writes it into a config."""
        return keras.saving.serialize_keras_object(value)
