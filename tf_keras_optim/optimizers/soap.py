"""SOAP: Adam in the eigenbases of a matrix' gradients."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.numerics import bases, formulas
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.optimizers.matrix_variables import axes_of
from tf_keras_optim.optimizers.records import registered
from tf_keras_optim.optimizers.soap_arguments import SoapArguments
from tf_keras_optim.optimizers.soap_shared import (
    bases_in,
    one_later,
    sides_in,
    sides_of,
    unless_first,
)

_MOMENTS = ("momentum", "velocity")


@registered({"learning_rate": 0.01, "sides": "shorter"})
class Soap(SoapArguments):
    """SOAP, with AdamW for what is no matrix.

    ```
    w <- w - lr * weight_decay * w
    g' = QL^T g QR                                                g as a matrix
    m <- m + (1 - beta_1) * (g' - m),  v <- v + (1 - beta_2) * (g'^2 - v)
    n = m / (sqrt(v) + epsilon)
    w <- w - lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * QL n QR^T
    L <- L + (1 - s) * (g g^T - L),  R <- R + (1 - s) * (g^T g - R),  s = shampoo_beta
    every `every` updates, for both sides:
        order = indices of diag(QL^T L QL), from the largest to the smallest
        QL <- QL[:, order], and the rows of v likewise
        QL <- eigenvectors of L, the first time; then the orthogonal factor of L QL
        m goes from the old bases to the new ones
    ```

    The bases start as the identity, so that it is AdamW before they are computed first. The
    matrices are those of `Muon`, with the last kernel of the model; AdamW moves the others. A
    side of more than `largest_side` has no basis. A warm-up of the rate is needed.

    In a function that is compiled as a whole (`jit_compile=True` around the step), where
    eigenvectors take too long, the first bases are those of eight orthogonal iterations: the
    run is another one. Of a gradient with fewer rows than columns, part of the longer side's
    basis is arbitrary at first: `start="adam"` waits for `every` gradients.

    {{arguments}}

    State: slots `momentum` and `velocity` (8 bytes a parameter); of an m x n matrix also
    `left`, `left_basis` (8 m^2 bytes), `right` and `right_basis` (8 n^2 bytes).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense gradient.

    Raises:
      ValueError: an argument is out of range, or asks for axes that a variable has not.

    Example:
      >>> optimizer = Soap(learning_rate=0.1, weight_decay=None)
      >>> w = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="kernel")
      >>> _ = optimizer.apply_gradients([(tf.constant([[1.0, -1.0], [1.0, 1.0]]), w)])
      >>> w.numpy().round(3)
      array([[0.9, 2.1],
             [2.9, 3.9]], dtype=float32)

    Source: Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025.
    """

    corrected = ("beta_1", "beta_2")
    slot_meanings = {
        "momentum": "first moment",
        "velocity": "second moment",
        "left": "mean of g g^T",
        "right": "mean of g^T g",
        "left_basis": "eigenvectors of the mean of g g^T",
        "right_basis": "eigenvectors of the mean of g^T g",
    }

    def slots_for(self, variable: VariableInfo) -> tuple[Slot, ...]:
        """Both moments; for each side with a basis that, and what it is computed from."""
        sides = sides_of(variable.shape, axes_of(variable, self._matrix_rules), self)
        if not sides:
            return tuple(map(Slot, _MOMENTS))
        meanings = {name: f"SOAP: {self.slot_meanings[name]} in the bases" for name in _MOMENTS}
        found = [Slot(name, meaning=meaning) for name, meaning in meanings.items()]
        for side, shape in sides.items():
            found.append(Slot(side, shape=shape, keeps_digits=True))
            name = f"{side}_basis"
            found.append(Slot(name, shape=shape, start="identity", keeps_digits=True))
        return tuple(found)

    def options_for(self, variable: VariableInfo) -> dict[str, Any]:
        """The axes of a matrix with bases."""
        axes = axes_of(variable, self._matrix_rules)
        axes = axes if sides_of(variable.shape, axes, self) else None
        return {"axes": axes, "refreshes": axes is not None}

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """The step size with both bias corrections."""
        skips = scalars.start == "skip"
        return one_later(scalars) if skips else {"alpha": formulas.corrected_rate(scalars)[0]}

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        axes, betas = scalars.axes, (scalars.beta_1, scalars.beta_2)
        if axes is None:
            after = formulas.moments(gradient, slots, *betas)
            step, square = scalars.alpha * after["momentum"], after["velocity"]
            new = formulas.divided_step(value, step, square, scalars.epsilon, self.epsilon)
            return unless_first(scalars, new, after, value, slots)
        g, q = axes.matrix(gradient), bases_in(slots)
        before = {name: axes.matrix(slots[name]) for name in _MOMENTS}
        after = formulas.moments(bases.into(g, *q), before, *betas)
        root = tf.sqrt(after["velocity"]) + scalars.epsilon
        step = formulas.ratio(scalars.alpha * after["momentum"], root, self.epsilon)
        new = value - axes.tensor(bases.out_of(step, *q), value.shape)
        after = {name: axes.tensor(moment, value.shape) for name, moment in after.items()}
        new, after = unless_first(scalars, new, after, value, slots)
        share = scalars.beta_2 if scalars.shampoo_beta is None else scalars.shampoo_beta
        for side in sides_in(slots):
            is_left = side == "left"
            outer = tf.matmul(g, g, transpose_a=not is_left, transpose_b=is_left)
            after[side] = formulas.moment(slots[side], outer, share)
            after[f"{side}_basis"] = slots[f"{side}_basis"]
        return new, after

    def refresh(
        self, value: tf.Tensor, slots: Mapping[str, tf.Tensor], scalars: Scalars
    ) -> dict[str, tf.Tensor]:
        """The new bases, with both moments in them."""
        axes, found = scalars.axes, dict[str, tf.Tensor]()
        m, v = (axes.matrix(slots[name]) for name in _MOMENTS)
        axis = len(axes.batch)
        for side in sides_in(slots):
            basis, order = bases.next_basis(slots[side], slots[f"{side}_basis"])
            v = tf.gather(v, order, axis=axis + (side == "right"), batch_dims=axis)
            found[f"{side}_basis"] = basis
        m = bases.into(bases.out_of(m, *bases_in(slots)), *bases_in(found))
        return found | {n: axes.tensor(x, value.shape) for n, x in zip(_MOMENTS, (m, v))}
