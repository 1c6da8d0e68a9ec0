"""What Keras 3 (on TensorFlow) expects of an optimizer."""

from typing import Any

import keras
import tensorflow as tf

from tf_keras_optim.engine import tensorflow_private_tracking as tracking
from tf_keras_optim.engine.optimizer import Engine
from tf_keras_optim.engine.views import Shown
from tf_keras_optim.faces import described, naming
from tf_keras_optim.faces.keras_private_members import MembersInKeras3, VariableTracker
from tf_keras_optim.faces.keras_private_order import InOrderOfKeras3
from tf_keras_optim.faces.keras_private_variables import opened
from tf_keras_optim.faces.own_variables import OwnVariables, within


def automatic_name(class_name: str) -> str:
    """Returns a name that no other object has: "adam", "adam_1", counted with Keras' own."""
    name = naming.snake_case(class_name)
    number = keras.backend.get_uid(name)
    return f"{name}_{number - 1}" if number > 1 else name


class Keras3Optimizer(
    naming.Described,
    MembersInKeras3,
    OwnVariables,
    InOrderOfKeras3,
    Engine,
    keras.optimizers.Optimizer,
):
    """The engine, as an instance of `keras.optimizers.Optimizer`.

    State variables are TensorFlow's; what is public of them are `keras.Variable`s
    around the same memory. Keras' own `__init__` is not run: everything it would
    set up, the engine has.
    """

    _other_keras = "tf_keras"
    _how_to_change = naming.HOW_TO_BIND_TO_KERAS_2
    _known_to_keras = naming.arguments_of(keras.optimizers.Optimizer)
    _in_keras = keras.optimizers.Optimizer
    _lock = False
    _tracker = Shown(lambda optimizer: VariableTracker(optimizer, keras.Variable))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not naming.is_ours(cls) and isinstance(cls.lr, property):
            # Keras 3 has no `lr`: what such a class sets under that name is its own.
            cls.lr = Shown(lambda optimizer: optimizer.learning_rate)

    def __setattr__(self, name: str, value: Any) -> None:
        tracking.AutoTrackable.__setattr__(self, name, value)
        if isinstance(value, keras.Variable):
            self._adopt(value, name)

    def _find_own_variables(self) -> None:
        for name, value in list(tracking.attributes(self).items()):
            if not name.startswith(("_self_", "_tko_")) and name != "_public":
                for path, variable in within(value, name, keras.Variable):
                    self._adopt(variable, path)

    def _unwrap(self, variable: Any) -> tf.Variable:
        if isinstance(variable, keras.Variable):
            variable = variable.value
        if hasattr(variable, "true_dtype"):  # tf_keras under a mixed precision policy
            raise TypeError(
                f"Variable {variable.name!r} belongs to a tf_keras (Keras 2) model, but "
                f"{self._title()} is bound to Keras 3. {naming.HOW_TO_BIND_TO_KERAS_2}"
            )
        if not isinstance(variable, tf.Variable):
            raise TypeError(
                f"{self._title()} updates keras.Variable or tf.Variable objects. "
                f"Received: {variable!r} (of type {type(variable).__name__})."
            )
        return variable

    def _wrap(self, variable: tf.Variable, name: str) -> keras.Variable:
        with keras.name_scope(self.name):
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

    def _lookup_dependency(self, name: str, cached_dependencies: Any = None) -> Any:
        found = Engine._lookup_dependency(self, name, cached_dependencies)
        restores = cached_dependencies is not None
        if restores and found is None and name == "inner_optimizer":
            raise ValueError(
                f"{self._title()}: the checkpoint was written with a LossScaleOptimizer around "
                "the optimizer, and here there is none. Read it into a wrapper around this "
                "one, `tko.LossScaleOptimizer(optimizer)`, which loads it into both."
            )
        return found

    def _default_name(self) -> str:
        return automatic_name(type(self).__name__)

    def _float_type(self) -> str:
        return keras.backend.floatx()

    def _is_schedule(self, value: Any) -> bool:
        return isinstance(value, keras.optimizers.schedules.LearningRateSchedule)

    def _serialize(self, value: Any) -> Any:
        return keras.saving.serialize_keras_object(value)

    @classmethod
    def _deserialize(cls, config: Any, custom_objects: Any) -> Any:
        return described.schedule(keras, config, custom_objects)

    def _initial_value(self, initializer: Any, shape: Any, dtype: tf.DType) -> tf.Tensor:
        initializer = keras.initializers.get(initializer)
        return tf.convert_to_tensor(initializer(tuple(shape), dtype=dtype.name), dtype)

    def save_own_variables(self, store: Any) -> None:
        """Writes the state into a store of Keras': by position, and by name what Keras lacks.

        In an HDF5 file each array carries a note that names it and guards its bytes.
        """
        super().save_own_variables(opened(store))

    def load_own_variables(self, store: Any) -> None:
        """Reads the state from a store of Keras', as the engine says."""
        super().load_own_variables(opened(store))

    def stateless_apply(self, optimizer_variables: Any, grads: Any, trainable_variables: Any):
        """Refuses: Keras on TensorFlow has no stateless optimizers."""
        raise NotImplementedError(
            f"{self._title()}: `stateless_apply` is for Keras' JAX backend. On TensorFlow "
            "use `apply_gradients`."
        )
