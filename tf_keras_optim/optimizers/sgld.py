"""SGLD: gradient descent with noise, which samples weights."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.langevin_shared import Langevin
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.05, "temperature": 0.0})
class SGLD(Langevin):
    """Stochastic gradient Langevin dynamics.

    ```
    w <- w - lr * g + sqrt(2 * lr * temperature / data_size) * noise,   noise from N(0, 1)
    ```

    With g the gradient of the mean loss of an example (for classification the cross-entropy)
    the weights become samples of exp(-data_size * loss / temperature), up to an error of the
    order of the rate. `weight_decay` is a Gaussian prior of the variance
    `temperature / (data_size * weight_decay)`. At temperature 0 it is `SGD`.

    {{arguments}}

    State: none.

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = SGLD(0.1, data_size=100)
      >>> w = tf.Variable(tf.zeros([1000]))  # a thousand chains of the variance 1 / 100
      >>> for _ in range(100):
      ...     _ = optimizer.minimize(lambda: tf.reduce_sum(w**2) / 2, [w])
      >>> bool(0.08 < tf.math.reduce_std(w) < 0.12)
      True

    Source: Welling & Teh, "Bayesian Learning via Stochastic Gradient Langevin Dynamics", ICML
    2011.
    """

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The size of the noise."""
        return self.scale_of(scalars, 2.0 * scalars.learning_rate)

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        return value - scalars.learning_rate * gradient + self.noise(value, scalars), {}
