"""Muon: steps along orthogonal matrices for kernels, AdamW for the rest."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.numerics import formulas, matrices
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.tensorflow import devices
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.optimizers.matrix_variables import axes_of
from tf_keras_optim.optimizers.muon_arguments import MuonArguments
from tf_keras_optim.optimizers.muon_polynomials import coefficients
from tf_keras_optim.optimizers.records import InKeras, registered

_NOT_SPARSE = (
    "Muon orthogonalizes it as a whole. If it is a table of embeddings, have AdamW move it: "
    "add a pattern of its path to `exclude_layers`."
)
_FIXED = {"matrices": "rank_2", "output": None}  # Keras chooses so
_ONLY: dict[str, Any] = {"polynomial": None, "scale": "rms", "input_axes": {}, "batch_axes": {}}
_ONLY |= {"per_head": False, "normalize": None, "neuron_beta": 0.95, "compute_dtype": "auto"}
_LISTS = {"momentums": "momentum", "adam_velocities": "velocity"}


@registered({"learning_rate": 0.02}, InKeras("Muon", _FIXED, _ONLY, lists=_LISTS))
class Muon(MuonArguments):
    """Muon, with AdamW for what is no hidden kernel.

    ```
    w <- w - lr * weight_decay * w
    m <- momentum * m + g
    d = g + momentum * m if nesterov else m
    X = d as a matrix / |d|, then `ns_steps` times:
        X <- a X + (b A + c A A) X,  A = X X^T      singular values go to about 1
    w <- w - lr * factor * X
    factor: rms_rate * sqrt(max(rows, columns)), or "spectral": sqrt(max(1, columns / rows))
    AdamW:  as `AdamW`, with the arguments that begin with adam
    ```

    The rows of a matrix are inputs, its columns outputs: a dense kernel as it is, a
    convolution as (all axes but the last, outputs), query, key and value kernels of attention
    as (inputs, heads * size), its output kernel as (heads * size, outputs), recurrent kernels
    as a whole. AdamW moves vectors, biases, scales of norms, embeddings, depthwise kernels,
    matrices with a side of 1, and the last kernel of the model. Other kernels of three axes
    are taken for convolutions: say it by `input_axes` and `batch_axes` where they are not.
    `explain` shows the choice: AdamW's variables have a `velocity`.

    With `normalize="neurons"` a step's columns are divided by the root of their running mean
    square `s <- s + (1 - neuron_beta) * (mean(X^2 over rows) - s)`, and its norm stays.
    A variable without gradients goes on moving until its momentum has faded. For long runs
    a `weight_decay` of 0.1 (both), `adam_beta_2` of 0.95 and a warm-up over a fifth of a short
    run, less of a long one, are common.

    {{arguments}}

    State: slot `momentum` (4 bytes a parameter; 1 with `slot_dtype="int8"`); AdamW's variables
    also `velocity` (8 bytes). With `normalize` also `neuron_velocity`, a number an output.

    Sparse gradients: AdamW's variables as with the dense gradient; refused for matrices.

    Raises:
      ValueError: an argument is out of range, asks for axes that a variable has not, or a
        gradient of a matrix is sparse.

    Example:
      >>> optimizer = Muon(learning_rate=0.1, weight_decay=None, output=None)
      >>> w = tf.Variable([[1.0, 0.0], [0.0, 1.0]], name="kernel")
      >>> _ = optimizer.apply_gradients([(tf.constant([[3.0, 0.0], [0.0, 3.0]]), w)])
      >>> w.numpy().round(2)
      array([[0.97, 0.  ],
             [0.  , 0.97]], dtype=float32)

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
    (kellerjordan.github.io/posts/muon); Liu et al., "Muon is Scalable for LLM Training", 2025
    (arXiv 2502.16982); Amsel et al., "The Polar Express", 2025 (arXiv 2505.16932); Li et al.,
    "NorMuon", 2025 (arXiv 2510.05491).
    """

    corrected = ("adam_beta_1", "adam_beta_2")
    slot_meanings = {
        "momentum": "Muon: sum of gradients",
        "velocity": "second moment",
        "neuron_velocity": "Muon: mean square of a step's outputs",
    }

    def slots_for(self, variable: VariableInfo) -> tuple[Slot, ...]:
        """The momentum, with AdamW's second moment or that of outputs beside it."""
        momentum, axes = (
            Slot("momentum", eight_bit="signed"),
            axes_of(variable, self._matrix_rules),
        )
        if axes is None:
            mean = Slot("momentum", eight_bit="signed", meaning="first moment")
            return (mean, Slot("velocity", eight_bit="unsigned"))
        if self.normalize is None:
            return (momentum,)
        batch, shape = axes.batch_shape(variable.shape), variable.shape
        return (momentum, Slot("neuron_velocity", shape=(*batch, axes.sizes(shape)[1])))

    def options_for(self, variable: VariableInfo) -> dict[str, Any]:
        """The axes of a matrix and the size of its step; AdamW's own decay."""
        axes, narrow = axes_of(variable, self._matrix_rules), self.compute_dtype
        if axes is None:
            return {"axes": None, "weight_decay_name": "adam_weight_decay"}
        if narrow == "auto":
            can = devices.multiplies_bfloat16(variable.device)
            narrow = "bfloat16" if can else "float32"
        factor = self._factor_of(axes.sizes(variable.shape))
        return {"axes": axes, "factor": factor, "narrow": narrow, "not_sparse": _NOT_SPARSE}

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """AdamW's step size with both bias corrections."""
        alpha, _ = formulas.corrected_rate(scalars, names=self.corrected)
        return {"alpha": scalars.adam_lr_ratio * alpha}

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        momentum, axes = scalars.momentum, scalars.axes
        if axes is None:
            betas = (scalars.adam_beta_1, scalars.adam_beta_2)
            after = formulas.moments(gradient, slots, *betas)
            step, square = scalars.alpha * after["momentum"], after["velocity"]
            moved = formulas.divided_step(value, step, square, scalars.epsilon, self.epsilon)
            return moved, after
        m = momentum * slots["momentum"] + gradient
        after, direction = {"momentum": m}, gradient + momentum * m if scalars.nesterov else m
        x = _orthogonalized(axes.matrix(direction), scalars)
        if "neuron_velocity" in slots:
            s = tf.reduce_mean(tf.square(x), -2)
            s = formulas.moment(slots["neuron_velocity"], s, scalars.neuron_beta)
            after["neuron_velocity"] = s
            x = matrices.with_norm_of(x / (tf.sqrt(s)[..., None, :] + 1e-8), x)
        step = axes.tensor(x, value.shape)
        return value - scalars.learning_rate * scalars.factor * step, after


def _orthogonalized(matrix: tf.Tensor, scalars: Scalars) -> tf.Tensor:
    triples, safety = coefficients(scalars)
    dtype = matrix.dtype if matrix.dtype == tf.float64 else tf.as_dtype(scalars.narrow)
    return matrices.orthogonalized(matrix, triples, safety=safety, compute_dtype=dtype)
