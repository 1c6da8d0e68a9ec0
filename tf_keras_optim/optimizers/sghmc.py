"""SGHMC: gradient descent with momentum and noise, which samples weights."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.langevin_shared import Langevin
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.02, "temperature": 0.0})
class SGHMC(Langevin):
    """Stochastic gradient Hamiltonian Monte Carlo.

    ```
    v <- momentum * v - lr * g
         + sqrt(2 * (1 - momentum) * lr * temperature / data_size) * noise
    w <- w + v
    ```

    Samples as `SGLD` does, and moves farther between samples that are alike. At temperature 0
    it is `SGD` with this momentum, at momentum 0 it is `SGLD`.

    {{arguments}}

    State: slot `momentum` (4 bytes a parameter; 1 with `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = SGHMC(0.01, data_size=100)
      >>> w = tf.Variable(tf.zeros([1000]))  # a thousand chains of the variance 1 / 100
      >>> for _ in range(200):
      ...     _ = optimizer.minimize(lambda: tf.reduce_sum(w**2) / 2, [w])
      >>> bool(0.08 < tf.math.reduce_std(w) < 0.12)
      True

    Source: Chen, Fox & Guestrin, "Stochastic Gradient Hamiltonian Monte Carlo", ICML 2014, as
    in Wenzel et al., "How Good is the Bayes Posterior in Deep Neural Networks Really?", ICML
    2020.
    """

    slots = (Slot("momentum", eight_bit="signed"),)
    slot_meanings = {"momentum": "SGD: last step"}
    momentum = Hyperparameter(
        0.9,
        minimum=0.0,
        below=1.0,
        keyword_only=True,
        schedulable=True,
        doc="how much of the last step is kept",
    )

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The size of the noise."""
        share = 2.0 * (1.0 - scalars.momentum)
        return self.scale_of(scalars, share * scalars.learning_rate)

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        step = scalars.learning_rate * gradient - self.noise(value, scalars)
        value, velocity = formulas.with_momentum(
            value, step, slots["momentum"], scalars.momentum, False
        )
        return value, {"momentum": velocity}
