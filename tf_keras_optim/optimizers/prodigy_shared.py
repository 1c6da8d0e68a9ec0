"""What Prodigy is given, and the rate and the sum that it computes twice in an update."""

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, by_name, decay
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer

UNIT = 1e-6  # of s and of the numerator, which would underflow: d is their quotient
_LEAST = -100.0  # stands for the logarithm of 0


class ProdigySums(Optimizer):
    """The declarations of Prodigy, and what `measure` and `update` have in common."""

    learning_rate = LearningRate(
        1.0,
        doc="factor on the rate that is found: number, 0-d tensor, schedule, or callable; "
        "default 1.0. A decay to 0 over the run (cosine) is recommended.",
    )
    beta_1 = decay(0.9, "decay of the first moment")
    beta_2 = decay(0.999, "decay of the second moment")
    epsilon = Hyperparameter(
        1e-8, minimum=0.0, doc="small constant for numerical stability, times d"
    )
    weight_decay = Hyperparameter(
        None,
        kind=float,
        minimum=0.0,
        schedulable=True,
        doc="decoupled weight decay per step, a schedule of it, or `None`. Each weight loses "
        "the fraction `weight_decay * rate`, d and the correction included.",
    )
    beta_3 = decay(
        None,
        "decay of the sums that d goes by, or `None` for the root of `beta_2`",
        by_name=True,
    )
    initial_d = by_name(
        1e-6,
        "d before the first update; 1e-5 or 1e-4 where d does not begin to grow within a few "
        "hundred updates, or the run is that short",
        above=0.0,
        until_built=True,
    )
    d_coefficient = by_name(1.0, "factor on the estimate of d; try 0.5 or 2", above=0.0)
    growth_rate = by_name(
        None,
        "largest factor by which d may grow in an update once it has left `initial_d`, or "
        "`None` for no limit",
        kind=float,
        minimum=1.0,
    )
    use_bias_correction = by_name(False, "correct both moments as Adam does", until_built=True)
    safeguard_warmup = by_name(
        False,
        "leave the learning rate out of the sum s, so that a warm-up does not weigh in the "
        "estimate",
    )
    every_nth = by_name(
        1,
        "let only each so many elements of a variable count for d",
        minimum=1,
        until_built=True,
    )

    @property
    def products(self) -> dict[str, str]:
        """The slots for the products of the betas, by the names of these, if there are any."""
        names = ("beta_1", "beta_2") if self.use_bias_correction else ()
        return {name: formulas.log_product_key(name) for name in names}

    def advanced(
        self, slots: Mapping[str, tf.Tensor], scalars: Scalars
    ) -> dict[str, tf.Tensor]:
        """Returns the logarithms of these products with the betas of this update."""
        found = {}
        for name, slot in self.products.items():
            beta = getattr(scalars, name)
            if tf.is_tensor(beta):
                further = tf.math.log(beta)
            else:
                further = math.log(beta) if beta else _LEAST
            found[slot] = tf.maximum(slots[slot] + further, _LEAST)
        return found

    def rate_of(
        self, d: tf.Tensor, products: Mapping[str, tf.Tensor], scalars: Scalars
    ) -> tf.Tensor:
        """Returns the rate of this update.

        Args:
          d: the estimate before it.
          products: what `advanced` returned.
          scalars: the numbers of this update.
        """
        rate = scalars.learning_rate * d
        if products:
            first, second = (-tf.math.expm1(product) for product in products.values())
            rate *= tf.sqrt(second) / first
        return rate

    def beta_of_sums(self, scalars: Scalars) -> Any:
        """Returns the decay of the sums, a number or a 0-d tensor."""
        if scalars.beta_3 is not None:
            return scalars.beta_3
        beta = scalars.beta_2
        return tf.sqrt(beta) if tf.is_tensor(beta) else math.sqrt(beta)

    def sampled(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the elements of a tensor of the variable's shape that count."""
        return Slot("s", every=self.every_nth).sampled(tensor)

    def sum_of(
        self,
        gradient: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        d: tf.Tensor,
        rate: tf.Tensor,
        scalars: Scalars,
    ) -> tf.Tensor:
        """Returns the new weighted sum of gradients.

        Args:
          gradient: the gradient.
          slots: the slots before the update.
          d: the estimate before it.
          rate: its rate.
          scalars: its numbers.
        """
        weight = d / UNIT * (d if self.safeguard_warmup else rate)
        return self.beta_of_sums(scalars) * slots["s"] + weight * self.sampled(gradient)
