"""The abstract base class of all optimizers."""

from tf_keras_optim.keras_compat.running import Face
from tf_keras_optim.optimizers.records import documented


@documented
class Optimizer(Face):
    """Abstract base class: subclass it to write an optimizer of your own.

    The short way is one pure function. Declare hyperparameters and slots, and
    override `update`. The base class provides clipping, decay, averaging,
    accumulation, loss scaling, distribution, compilation and serialization:

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

    The Keras 3 way also works, unchanged: override `build`, `update_step` and
    `get_config`, as the documentation of `keras.optimizers.Optimizer` shows.

    {{arguments}}

    Raises:
      TypeError: an argument is unknown (the nearest known one is named), or the class
        has no algorithm.
      ValueError: a value is of another kind or out of range, or two clip arguments are
        given.
    """
