"""ADOPT: a gradient is divided by what came before it."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.numerics import formulas, loops
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import registered


@registered({"learning_rate": 0.02})
class ADOPT(Optimizer):
    """ADOPT.

    ```
    first update of a variable:  v <- g^2, and nothing else
    later:  n = g / max(sqrt(v), epsilon), clipped to +-(t - 1)^clip_power
            m <- m + (1 - beta_1) * (n - m)
            w <- w - lr * m
            v <- v + (1 - beta_2) * (g^2 - v)
    ```

    A gradient is divided by the root of the mean of those before it, so that it converges for
    any `beta_2`. In the first update decoupled weight decay does nothing either. Each variable,
    and each lazy row, has its own first update.

    {{arguments}}

    State: slots `momentum` and `velocity`, which starts at -1 for "no gradient yet"
    (8 bytes a parameter; 5 with `slot_dtype="int8"`).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = ADOPT(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> for _ in range(2):
      ...     _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.99, 2.01], dtype=float32)

    Source: Taniguchi et al., "ADOPT: Modified Adam Can Converge with Any beta_2 with the
    Optimal Rate", NeurIPS 2024.
    """

    elementwise = True
    slot_meanings = {
        "momentum": "ADOPT: mean of normalized gradients",
        "velocity": "ADOPT: mean of squared gradients, or -1",
    }
    learning_rate = LearningRate(0.001)
    beta_1 = decay(0.9, "decay of the mean of normalized gradients")
    beta_2 = decay(0.9999, "decay of the second moment")
    epsilon = Hyperparameter(1e-6, minimum=0.0, doc="what a gradient is divided by at least")
    clip_power = Hyperparameter(
        0.25,
        minimum=0.0,
        optional=True,
        keyword_only=True,
        doc="power of the number of updates so far that limits a normalized gradient, at least "
        "0; `None` for no limit, as in the first version of the paper.",
    )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The mean of normalized gradients and the second moment."""
        return (Slot("momentum", eight_bit="signed"), Slot("velocity", start=-1.0))

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The limit, and the decay, which is 0 in the first update."""
        found, before = {}, scalars.step - 1.0
        if scalars.clip_power is not None:
            found["limit"] = before**scalars.clip_power
        if scalars.weight_decay is not None and scalars.decoupled_weight_decay:
            found["weight_decay"] = scalars.weight_decay * tf.minimum(before, 1.0)
        return found

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        v, square = slots["velocity"], tf.square(gradient)
        is_first = v < 0.0
        root = tf.maximum(tf.sqrt(tf.maximum(v, 0.0)), scalars.epsilon)
        normalized = formulas.ratio(gradient, root, self.epsilon)
        if scalars.clip_power is not None:
            normalized = tf.clip_by_value(normalized, -scalars.limit, scalars.limit)
        m = slots["momentum"]
        m = tf.where(is_first, m, formulas.moment(m, normalized, scalars.beta_1))
        moved = value - scalars.learning_rate * m
        value = tf.where(is_first, value, moved)
        share = loops.after(value, 1.0 - scalars.beta_2)
        v = tf.where(is_first, square, formulas.towards(v, square, share))
        return value, {"momentum": m, "velocity": v}
