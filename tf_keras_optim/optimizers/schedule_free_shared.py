"""What the Schedule-Free algorithms have in common."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.optimizers.base import Optimizer


class ScheduleFree(Optimizer):
    """Steps on weights between two sequences: z, which takes the steps, and its mean x.

    A class below gives `direction` and the share of x, `mixing`.
    """

    warmup_steps = Hyperparameter(
        0,
        kind=int,
        minimum=0,
        doc="updates over which the rate grows linearly from 0; about 5 % of a run.",
    )
    averaging_power = Hyperparameter(
        0.0,
        minimum=0.0,
        keyword_only=True,
        doc="power of the number of the update in its weight in the mean",
    )
    rate_power = Hyperparameter(
        2.0,
        minimum=0.0,
        keyword_only=True,
        doc="power of the largest rate so far in that weight",
    )

    @property
    def mixing(self) -> float:
        """The share of the mean in the weights that are trained, above 0."""
        raise NotImplementedError

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The sequence that takes the steps."""
        return (Slot("z", start="value"),)

    @property
    def step_slots(self) -> tuple[Slot, ...]:
        """The sum of the weights in the mean, and the largest rate so far."""
        return (Slot("weight_sum"), Slot("largest_rate"))

    @property
    def decays_in_update(self) -> bool:
        """The decay is part of the step of z."""
        return True

    def options_for(self, variable: VariableInfo) -> dict[str, Any]:
        """Whether the decay applies to a variable."""
        return {"decays": variable.decays}

    def factor(self, scalars: Scalars) -> tf.Tensor:
        """Returns the factor of the warm-up on the learning rate."""
        if not self.warmup_steps:
            return tf.ones_like(scalars.step)
        return tf.minimum(scalars.step / float(self.warmup_steps), 1.0)

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The rate with its warm-up, and the share of this update in the mean."""
        factor = self.factor(scalars)
        largest = tf.maximum(scalars.largest_rate, scalars.common_rate * factor)
        weight = largest**self.rate_power
        if self.averaging_power:
            weight *= scalars.step**self.averaging_power
        total = scalars.weight_sum + weight
        return {
            "rate": scalars.learning_rate * factor,
            "share": tf.math.divide_no_nan(weight, total),
            "weight_sum": total,
            "largest_rate": largest,
        }

    def direction(
        self, gradient: tf.Tensor, slots: Mapping[str, tf.Tensor], scalars: Scalars
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Returns the direction of a step, and the new slots that it needs."""
        raise NotImplementedError

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the classes below."""
        direction, after = self.direction(gradient, slots, scalars)
        if scalars.decays:
            direction = formulas.penalized(direction, value, scalars.weight_decay)
        z, share = slots["z"], scalars.share
        along = scalars.rate * (self.mixing * (1.0 - share) - 1.0)
        moved = formulas.towards(value, z, share) + along * direction
        return moved, {"z": z - scalars.rate * direction, **after}

    def evaluated(self, value: tf.Tensor, slots: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The mean x of the sequence z."""
        return value + (1.0 - 1.0 / self.mixing) * (slots["z"] - value)

    def trained(self, value: tf.Tensor, slots: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The weights between x and z."""
        return formulas.towards(slots["z"], value, self.mixing)
