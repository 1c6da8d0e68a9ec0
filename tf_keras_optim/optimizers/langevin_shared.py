"""What the algorithms that sample weights have in common."""

from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.numerics import noise
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer


class Langevin(Optimizer):
    """Steps with noise: weights become samples of exp(-data_size * loss / temperature)."""

    draws_noise = True
    counts_updates = False
    learning_rate = LearningRate(0.01)
    data_size = Hyperparameter(
        1.0,
        above=0.0,
        doc="number of examples whose mean the loss is; 1 where it is the sum over all",
    )
    temperature = Hyperparameter(
        1.0,
        minimum=0.0,
        schedulable=True,
        doc="temperature of the distribution; 1 samples the posterior, below it is cold, and "
        "at 0 there is no noise",
    )
    burn_in = Hyperparameter(
        0, minimum=0, keyword_only=True, doc="number of updates without noise at the start"
    )
    seed = Hyperparameter(
        0,
        minimum=0,
        maximum=2**31 - 1,
        keyword_only=True,
        doc="integer that, with the variable's place among all variables and the number of the "
        "update, decides the noise; the same on all replicas.",
    )

    def scale_of(self, scalars: Scalars, variance: Any) -> dict[str, tf.Tensor]:
        """Returns the standard deviation of the noise of this update, as `prepare` does.

        Args:
          scalars: the numbers of this update.
          variance: its variance at temperature 1 and for one example, 0-d tensor.
        """
        scale = tf.sqrt(variance * scalars.temperature / scalars.data_size)
        if self.burn_in:
            scale = tf.where(scalars.total_step > self.burn_in, scale, tf.zeros_like(scale))
        return {"noise_scale": scale}

    def noise(self, like: tf.Tensor, scalars: Scalars) -> tf.Tensor:
        """Returns the noise of this update, of the shape and dtype of a tensor."""
        if not tf.is_tensor(scalars.temperature) and scalars.temperature == 0.0:
            return tf.zeros_like(like)
        return scalars.noise_scale * noise.normal(like, scalars.noise_seed, self.seed)
