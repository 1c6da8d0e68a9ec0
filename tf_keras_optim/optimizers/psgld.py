"""PSGLD: SGLD with a rate of its own for each element."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, decay
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.langevin_shared import Langevin
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.01, "temperature": 0.0})
class PSGLD(Langevin):
    """Preconditioned stochastic gradient Langevin dynamics.

    ```
    v <- v + (1 - rho) * (g^2 - v)
    G = 1 / (sqrt(v) + epsilon)
    w <- w - lr * G * g + sqrt(2 * lr * G * temperature / data_size) * noise
    ```

    Samples as `SGLD` does, with steps that fit the size of each element's gradient. The term
    with the derivative of G is left out, as in the paper's experiments; it goes with 1 - rho.
    Where v follows the sampled weight itself, and not the noise of batches, the spread is too
    large without it: on a Gaussian the variance was 1.2 times the right one at rho 0.99, 1.1
    times at 0.999. What has no gradient moves by noise of the rate `lr / epsilon`. `burn_in`
    lets v settle first. A prior is exact with `decoupled_weight_decay=False`. At temperature 0
    it is `RMSprop` with epsilon outside of the root.

    {{arguments}}

    State: slot `velocity` (4 bytes a parameter).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = PSGLD(0.01, data_size=1000, burn_in=2)
      >>> w = tf.Variable([1.0, 2.0])
      >>> for _ in range(2):
      ...     _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.829, 2.171], dtype=float32)

    Source: Li et al., "Preconditioned Stochastic Gradient Langevin Dynamics for Deep Neural
    Networks", AAAI 2016.
    """

    slots = (Slot("velocity"),)
    slot_meanings = {"velocity": "RMSprop: mean of squared gradients"}
    rho = decay(0.99, "decay of the mean of squares", by_name=True)
    epsilon = Hyperparameter(
        1e-5, minimum=0.0, keyword_only=True, doc="what is added to the root of that mean"
    )

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The size of the noise, for G = 1."""
        return self.scale_of(scalars, 2.0 * scalars.learning_rate)

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        v = formulas.moment(slots["velocity"], tf.square(gradient), scalars.rho)
        root = tf.sqrt(v) + scalars.epsilon
        step = scalars.learning_rate * formulas.ratio(gradient, root, self.epsilon)
        noise = formulas.ratio(self.noise(value, scalars), tf.sqrt(root), self.epsilon)
        return value - step + noise, {"velocity": v}
