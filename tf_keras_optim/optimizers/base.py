"""The abstract base class of all optimizers."""

import inspect

from tf_keras_optim.engine.options import COMMON_ARGUMENTS
from tf_keras_optim.faces.running import Face, keras

PACKAGE = "tf_keras_optim"


class Optimizer(Face):
    """Abstract base class: subclass it to write an optimizer of your own.

    The short way is one pure function. Declare hyperparameters and slots, and
    override `update`; clipping, decay, averaging, accumulation, loss scaling,
    distribution, compilation and serialization come with the class:

    ```python
    class Lion(tko.Optimizer):
        learning_rate = tko.LearningRate(1e-4)
        beta_1 = tko.Hyperparameter(0.9, minimum=0.0, below=1.0)
        beta_2 = tko.Hyperparameter(0.99, minimum=0.0, below=1.0)
        slots = ("momentum",)

        def update(self, gradient, value, slots, scalars):
            m, b1, b2 = slots["momentum"], scalars.beta_1, scalars.beta_2
            direction = tf.sign(b1 * m + (1 - b1) * gradient)
            momentum = b2 * m + (1 - b2) * gradient
            return value - scalars.learning_rate * direction, {"momentum": momentum}
    ```

    The Keras 3 way works unchanged too: override `build`, `update_step` and
    `get_config`, as the documentation of `keras.optimizers.Optimizer` shows.

    Args:
      learning_rate: number, 0-d tensor, schedule, or callable without arguments.
      {{common}}

    Raises:
      TypeError: an unknown argument (the nearest known one is named), or a class
        without an algorithm.
      ValueError: a value of another kind or out of range, or two clip arguments.
    """


def documented(cls: type) -> type:
    """Fills the shared arguments into a docstring and registers the class with Keras.

    The class is registered as "tf_keras_optim>Name", so that Keras finds it when a
    saved model is loaded or when that name is given to `model.compile`.
    """
    cls.__doc__ = inspect.cleandoc(cls.__doc__ or "").replace("  {{common}}", COMMON_ARGUMENTS)
    if cls is not Optimizer:
        keras.saving.register_keras_serializable(package=PACKAGE)(cls)
    return cls


documented(Optimizer)
