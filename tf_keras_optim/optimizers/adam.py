"""Adam: moments of the gradient, corrected for their start at zero."""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate, decay
from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import InKeras, registered

ONLY = {"epsilon_after_correction": False, "nesterov": False}  # Keras' has neither


@registered({"learning_rate": 0.01}, InKeras("Adam", only=ONLY))
class Adam(Optimizer):
    """Adam, optionally with AMSGrad or Nesterov's momentum.

    ```
    m <- m + (1 - beta_1) * (g - m)            first moment
    v <- v + (1 - beta_2) * (g^2 - v)          second moment
    alpha = lr * sqrt(1 - beta_2^t) / (1 - beta_1^t)
    w <- w - alpha * m / (sqrt(v) + epsilon)
    amsgrad:  the running maximum of v stands in its place in the last line
    nesterov: and beta_1 * m * c_t / c_(t+1) + (1 - beta_1) * g in the place of m, where
              c_t = 1 - beta_1^t (NAdam without a momentum schedule)
    ```

    `epsilon` is the paper's "epsilon hat" of section 2.1, as in Keras; with
    `epsilon_after_correction` it is the one of Algorithm 1, which is added to the corrected
    root, as in PyTorch: `epsilon * sqrt(1 - beta_2^t)` stands in its place.

    {{arguments}}

    State: slots `momentum` and `velocity` (8 bytes a parameter); with AMSGrad also
    `velocity_hat` (12 bytes). `slot_dtype="int8"` makes the moments a quarter.

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense
    gradient. Rows can be updated lazily (`sparse`).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> optimizer = Adam(learning_rate=0.1)
      >>> w = tf.Variable([1.0, 2.0])
      >>> _ = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)])
      >>> w.numpy().round(3)
      array([0.9, 2.1], dtype=float32)

    Source: Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015;
    Reddi, Kale & Kumar, "On the Convergence of Adam and Beyond", ICLR 2018; Dozat,
    "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016.
    """

    elementwise = True
    corrected = ("beta_1", "beta_2")
    slot_meanings = {
        "momentum": "first moment",
        "velocity": "second moment",
        "velocity_hat": "largest second moment",
    }
    learning_rate = LearningRate(0.001)
    beta_1 = decay(0.9, "decay of the first moment")
    beta_2 = decay(0.999, "decay of the second moment")
    epsilon = Hyperparameter(1e-7, minimum=0.0, doc="small constant for numerical stability")
    amsgrad = Hyperparameter(False, doc="use the running maximum of the second moment")
    epsilon_after_correction = Hyperparameter(
        False, keyword_only=True, doc="add epsilon after the bias correction"
    )
    nesterov = Hyperparameter(False, keyword_only=True, doc="look ahead along the momentum")

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The two moments, and with AMSGrad the maximum of the second."""
        moments = (Slot("momentum", eight_bit="signed"), Slot("velocity", eight_bit="unsigned"))
        # Rounded by chance in every step, a running maximum would rise without end.
        maximum = Slot("velocity_hat", group=1)
        return (*moments, maximum) if self.amsgrad else moments

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The step sizes with both bias corrections, and "epsilon hat"."""
        alpha, root_2 = formulas.corrected_rate(scalars)
        found = {"alpha": alpha}
        if scalars.nesterov:
            found["moment_rate"], found["gradient_rate"] = formulas.ahead(scalars, alpha)
        if scalars.epsilon_after_correction:
            found["epsilon"] = scalars.epsilon * root_2
        if self.fusible:
            found |= self._operands(scalars)
            found["operand_epsilon"] = found.get("epsilon", found["operand_epsilon"])
        return found

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        after = formulas.moments(gradient, slots, scalars.beta_1, scalars.beta_2)
        square = after["velocity"]
        if scalars.amsgrad:
            square = after["velocity_hat"] = tf.maximum(slots["velocity_hat"], square)
        if scalars.nesterov:
            step = scalars.moment_rate * after["momentum"] + scalars.gradient_rate * gradient
        else:
            step = scalars.alpha * after["momentum"]
        return formulas.divided_step(value, step, square, scalars.epsilon, self.epsilon), after

    @property
    def fusible(self) -> bool:
        """TensorFlow's operation has no AMSGrad, and corrects Nesterov's momentum otherwise."""
        fits = formulas.operands_fit(self.epsilon, self.beta_1, self.beta_2)
        return fits and not (self.amsgrad or self.nesterov)

    def update_in_place(
        self,
        gradient: tf.Tensor,
        variable: tf.Variable,
        slots: Mapping[str, tf.Variable],
        scalars: Scalars,
    ) -> None:
        """The update in one pass. The operation rounds the betas; its step size fits them."""
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots["momentum"].handle,
            v=slots["velocity"].handle,
            beta1_power=scalars.operand_none,  # the corrections are in the step size
            beta2_power=scalars.operand_none,
            lr=scalars.operand_alpha,
            beta1=scalars.operand_beta_1,
            beta2=scalars.operand_beta_2,
            epsilon=scalars.operand_epsilon,
            grad=gradient,
        )

    def _operands(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """What the operation takes, with the step size that fits betas rounded to tensors."""
        dtype = scalars.step.dtype
        betas = [formulas.rounded(b, dtype) for b in (scalars.beta_1, scalars.beta_2)]
        alpha, _ = formulas.corrected_rate(scalars, *betas)
        found = {"operand_none": tf.zeros([], dtype), "operand_alpha": alpha}
        return found | formulas.operands(scalars, "beta_1", "beta_2", "epsilon")
