"""What Keras 3 (on TensorFlow) expects of an optimizer."""

from typing import Any

import keras

from tf_keras_optim.engine import declarations
from tf_keras_optim.engine.methods.views import Shown
from tf_keras_optim.engine.optimizer import Engine
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking
from tf_keras_optim.keras_compat import described, naming
from tf_keras_optim.keras_compat.keras3_side import Keras3Side
from tf_keras_optim.keras_compat.keras_private_members import MembersInKeras3, VariableTracker
from tf_keras_optim.keras_compat.keras_private_order import InOrderOfKeras3
from tf_keras_optim.keras_compat.keras_private_variables import opened


class Keras3Optimizer(
    naming.Described, MembersInKeras3, InOrderOfKeras3, keras.optimizers.Optimizer
):
    """The engine, as an instance of `keras.optimizers.Optimizer`.

    State variables are TensorFlow's; what is public of them are `keras.Variable`s
    around the same memory. Keras' own `__init__` is not run: everything it would
    set up, the engine has.
    """

    _other_keras = "tf_keras"
    _how_to_change = naming.HOW_TO_BIND_TO_KERAS_2
    _keras_side = Keras3Side
    _in_keras = keras.optimizers.Optimizer
    _lock = False
    _tracker = Shown(lambda optimizer: VariableTracker(optimizer, keras.Variable))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not naming.is_ours(cls) and isinstance(cls.lr, property):
            # Keras 3 has no `lr`: what such a class sets under that name is its own.
            cls.lr = Shown(lambda optimizer: optimizer.learning_rate)

    def __setattr__(self, name: str, value: Any) -> None:
        if declarations.set_plainly(self, name, value):
            return
        tracking.AutoTrackable.__setattr__(self, name, value)
        if isinstance(value, keras.Variable):
            self.tko.own.take_in(value, name)

    def _lookup_dependency(self, name: str, cached_dependencies: Any = None) -> Any:
        found = Engine._lookup_dependency(self, name, cached_dependencies)
        restores = cached_dependencies is not None
        if restores and found is None and name == "inner_optimizer":
            raise ValueError(
                f"{self.tko.title}: the checkpoint was written with a LossScaleOptimizer "
                "around the optimizer, and here there is none. Read it into a wrapper around "
                "this one, `tko.LossScaleOptimizer(optimizer)`, which loads it into both."
            )
        return found

    @classmethod
    def _deserialize(
        cls, config: Any, custom_objects: Any, *, is_optimizer: bool = False
    ) -> Any:
        if is_optimizer:
            expected = "an optimizer of tf_keras_optim"
            return described.instance(keras, config, Engine, expected, custom_objects)
        return described.schedule(keras, config, custom_objects)

    def save_own_variables(self, store: Any) -> None:
        """Writes the state into Keras' store: by position, by name where Keras has no place.

        In an HDF5 file each array has an attribute with its name and its checksum.
        """
        super().save_own_variables(opened(store))

    def load_own_variables(self, store: Any) -> None:
        """Reads the state from a store of Keras', as the engine says."""
        super().load_own_variables(opened(store))

    def stateless_apply(self, optimizer_variables: Any, grads: Any, trainable_variables: Any):
        """Refuses: Keras on TensorFlow has no stateless optimizers."""
        raise NotImplementedError(
            f"{self.tko.title}: `stateless_apply` is for Keras' JAX backend. On TensorFlow "
            "use `apply_gradients`."
        )
