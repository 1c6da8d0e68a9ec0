"""Prodigy: AdamW that finds its learning rate."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.methods.views import StepSlotView
from tf_keras_optim.engine.numerics import formulas, loops
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.optimizers.prodigy_shared import UNIT, ProdigySums
from tf_keras_optim.optimizers.records import registered

_CARRIED = ("d", "largest_d", "numerator")


@registered({"learning_rate": 1.0, "initial_d": 0.01, "growth_rate": 1.02})
class Prodigy(ProdigySums):
    """Prodigy: AdamW whose learning rate grows with an estimate d of the distance to go.

    ```
    rate = lr * d,  times sqrt(1 - beta_2^t) / (1 - beta_1^t) with use_bias_correction
    numerator <- beta_3 * numerator + d * rate * sum(g * (start - w))
    s <- beta_3 * s + d * rate * g                (d * d * g with safeguard_warmup)
    m <- m + (1 - beta_1) * (d * g - m)
    v <- v + (1 - beta_2) * ((d * g)^2 - v)
    estimate = d_coefficient * numerator / sum(|s|);  nothing changes at all if that is x / 0
    largest <- max(largest, estimate),   d <- max(d, estimate) while it is initial_d
    d <- min(largest, d * growth_rate)
    w <- w - weight_decay * rate * w - rate * m / (sqrt(v) + d * epsilon)
    ```

    Sums are over all variables; in an update only epsilon meets the new d, the rest the one
    before. `start` is the weight at the variable's own first update. The attribute `d` is the
    variable with the estimate; where it stays at `initial_d`, raise that. A group with other
    hyperparameters, or a Prodigy of its own, has a d of its own, but not for the sake of a
    `learning_rate_multiplier`. What has the rate 0 stays and does not count.

    {{arguments}}

    State: slots `momentum`, `velocity`, `start` and `s` (16 bytes a parameter, the last 8 over
    `every_nth`; the first 8 become 2 with `slot_dtype="int8"`), three numbers, and with
    `use_bias_correction` two a variable.

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense gradient.

    Raises:
      ValueError: an argument is out of range, or a float16 or bfloat16 variable has no master
        copy (`master_weights=False`, `stochastic_rounding`), so that d could not grow.

    Example:
      >>> optimizer = Prodigy(initial_d=1e-4)
      >>> w = tf.Variable([1.0, 2.0])
      >>> for _ in range(50):
      ...     _ = optimizer.minimize(lambda: tf.reduce_sum(w**2), [w])
      >>> bool(0.1 < optimizer.d.numpy() < 1.0)
      True

    Source: Mishchenko & Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
    ICML 2024.
    """

    counts_updates = False
    needs_master_weights = True
    slot_meanings = {
        "momentum": "Prodigy: mean of d times gradients",
        "velocity": "Prodigy: mean of their squares",
        "start": "Prodigy: first weights",
        "s": "Prodigy: weighted sum of gradients",
    }
    d = StepSlotView("d", "The estimate of the distance to the solution.")

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Two moments, the first weights, and the weighted sum of gradients."""
        every = self.every_nth
        return (
            Slot("momentum", eight_bit="signed"),
            Slot("velocity", eight_bit="unsigned"),
            Slot("start", start="value", every=every, keeps_digits=True),
            Slot("s", every=every),
            *(Slot(name, shape=(), keeps_digits=True) for name in self.products.values()),
        )

    @property
    def step_slots(self) -> tuple[Slot, ...]:
        """The estimate, its largest value so far, and its numerator."""
        first = self.initial_d
        return (Slot("d", start=first), Slot("largest_d", start=first), Slot("numerator"))

    decays_in_update = True  # by a rate that is known in the update alone

    def options_for(self, variable: VariableInfo) -> dict[str, Any]:
        """Whether the decay applies to a variable."""
        return {"decays": variable.decays}

    def measure(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> dict[str, tf.Tensor]:
        """What a variable adds to the numerator, and the size of its sum s."""
        rate = self.rate_of(scalars.d, self.advanced(slots, scalars), scalars)
        far = slots["start"] - self.sampled(value)
        share = scalars.d / UNIT * rate * loops.total(self.sampled(gradient) * far)
        size = loops.total(tf.abs(self.sum_of(gradient, slots, scalars.d, rate, scalars)))
        return {"share": share, "size": tf.where(rate > 0.0, size, tf.zeros_like(size))}

    def conclude(self, sums: Mapping[str, tf.Tensor], scalars: Scalars) -> dict[str, tf.Tensor]:
        """The new d; `moves` is 0 where nothing is to change."""
        before = {name: tf.cast(getattr(scalars, name), tf.float64) for name in _CARRIED}
        beta = tf.convert_to_tensor(self.beta_of_sums(scalars), scalars.d.dtype)
        numerator = tf.cast(beta, tf.float64) * before["numerator"] + sums["share"]
        estimate = self.d_coefficient * tf.math.divide_no_nan(numerator, sums["size"])
        d = largest = tf.maximum(before["largest_d"], estimate)
        if self.growth_rate is not None:
            is_first = tf.equal(scalars.d, tf.constant(self.initial_d, scalars.d.dtype))
            grown = tf.where(is_first, tf.maximum(before["d"], estimate), before["d"])
            d = tf.minimum(largest, grown * self.growth_rate)
        moves = tf.not_equal(sums["size"], 0.0)
        new = {"d": d, "largest_d": largest, "numerator": numerator}
        found = {name: tf.where(moves, new[name], before[name]) for name in _CARRIED}
        return found | {"d_before": before["d"], "moves": tf.cast(moves, tf.float64)}

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        d, after = scalars.d_before, self.advanced(slots, scalars)
        rate = self.rate_of(d, after, scalars)
        after["s"] = self.sum_of(gradient, slots, d, rate, scalars)
        after |= formulas.moments(d * gradient, slots, scalars.beta_1, scalars.beta_2)
        root = tf.sqrt(after["velocity"]) + scalars.d * scalars.epsilon
        step = formulas.ratio(after["momentum"], root, self.epsilon * self.initial_d)
        if scalars.decays:
            step += scalars.weight_decay * value
        moves = (scalars.moves > 0.0) & (rate > 0.0)
        after = {name: tf.where(moves, new, slots[name]) for name, new in after.items()}
        value = tf.where(moves, value - rate * step, value)
        return value, after | {"start": slots["start"]}
