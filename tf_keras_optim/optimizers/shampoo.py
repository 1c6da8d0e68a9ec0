"""Shampoo: steps divided by roots of the factors of a matrix' gradients."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.numerics import formulas, matrices, roots
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.optimizers.matrix_variables import axes_of
from tf_keras_optim.optimizers.records import registered
from tf_keras_optim.optimizers.shampoo_arguments import ShampooArguments


@registered({"learning_rate": 0.01})
class Shampoo(ShampooArguments):
    """Shampoo, whose steps have the lengths of another algorithm's.

    ```
    m <- m + (1 - beta_1) * (g - m)
    n = (m + (1 - beta_1) * (g - m) if nesterov else m) / (1 - beta_1^t)
    v <- v + (1 - beta_2) * (g^2 - v)
    a = n / (sqrt(v / (1 - beta_2^t)) + grafting_epsilon)        "adam"; of "sgd": n
    L <- L + (1 - beta_2) * (g g^T - L),  R <- R + (1 - beta_2) * (g^T g - R)
    u = PL n PR,  u <- u |a| / |u|                               for each block of a matrix
    w <- w - lr * u
    every `every` updates, from `start` on:
        PL = (L / (1 - beta_2^t) + epsilon |L / (1 - beta_2^t)| I)^(-1 / root), PR likewise
    ```

    Until there are roots u is a, as for variables that are no matrices (Adam's, where there is
    no `grafting`). The matrices are those of `Muon`, with the last kernel of the model, cut
    into blocks of at most `block` rows and columns. New roots serve from the next update on.
    With `grafting="adam"` the rate of a tuned AdamW serves.

    In a function that is compiled as a whole (`jit_compile=True` around the step), where
    eigenvectors take too long, the roots come from products alone, a coupled Newton iteration.

    {{arguments}}

    State: slots `momentum` and, with "adam" and "rmsprop", `velocity` (4 bytes a parameter
    each); of an m x n block also `left`, `left_root` (8 m^2 bytes), `right` and `right_root`
    (8 n^2 bytes).

    Sparse gradients: duplicate rows are summed; every row moves, as with the dense gradient.

    Raises:
      ValueError: an argument is out of range, or asks for axes that a variable has not.

    Example:
      >>> optimizer = Shampoo(learning_rate=0.1)
      >>> w = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="kernel")
      >>> _ = optimizer.apply_gradients([(tf.constant([[1.0, -1.0], [1.0, 1.0]]), w)])
      >>> w.numpy().round(3)
      array([[0.9, 2.1],
             [2.9, 3.9]], dtype=float32)

    Source: Gupta, Koren & Singer, "Shampoo", ICML 2018; Anil et al., "Scalable Second Order
    Optimization for Deep Learning", 2020; Shi et al., "A Distributed Data-Parallel PyTorch
    Implementation of the Distributed Shampoo Optimizer", 2023 (arXiv 2309.06497).
    """

    corrected = ("beta_1", "beta_2")
    slot_meanings = {
        "momentum": "first moment",
        "velocity": "second moment",
        "left": "mean of g g^T of each block",
        "right": "mean of g^T g of each block",
        "left_root": "inverse root of the mean of g g^T",
        "right_root": "inverse root of the mean of g^T g",
    }

    def slots_for(self, variable: VariableInfo) -> tuple[Slot, ...]:
        """The moments; for each side of a block its factor and the root of that."""
        axes = axes_of(variable, self._matrix_rules)
        found = [Slot("momentum")]
        if self.grafting in ("adam", "rmsprop") or (axes is None and self.grafting is None):
            found.append(Slot("velocity"))
        if axes is None:
            return tuple(found)
        k, l, *sides = roots.block_sizes(axes.sizes(variable.shape), self.block)  # noqa: E741
        for side, size in zip(("left", "right"), sides):
            shape = (*axes.batch_shape(variable.shape), k, l, size, size)
            found.append(Slot(side, shape=shape, keeps_digits=True))
            name = f"{side}_root"
            found.append(Slot(name, shape=shape, start="identity", keeps_digits=True))
        return tuple(found)

    def options_for(self, variable: VariableInfo) -> dict[str, Any]:
        """The axes of a matrix."""
        axes = axes_of(variable, self._matrix_rules)
        return {"axes": axes, "refreshes": axes is not None}

    def prepare(self, scalars: Scalars) -> dict[str, tf.Tensor]:
        """Both bias corrections."""
        first, second = (formulas.bias_correction(scalars, name) for name in self.corrected)
        return {"of_mean": first, "of_squares": second}

    def update(
        self,
        gradient: tf.Tensor,
        value: tf.Tensor,
        slots: Mapping[str, tf.Tensor],
        scalars: Scalars,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """See the class."""
        m = mean = formulas.moment(slots["momentum"], gradient, scalars.beta_1)
        if scalars.nesterov:
            mean = formulas.moment(m, gradient, scalars.beta_1)
        step = mean = mean / scalars.of_mean
        after = {"momentum": m}
        if "velocity" in slots:
            v = formulas.moment(slots["velocity"], tf.square(gradient), scalars.beta_2)
            after["velocity"] = v
            square = v if scalars.grafting == "rmsprop" else v / scalars.of_squares
            step = formulas.ratio(
                mean, tf.sqrt(square) + scalars.grafting_epsilon, self.grafting_epsilon
            )
        axes, rate = scalars.axes, scalars.learning_rate
        if axes is None:
            return value - rate * step, after
        g, n, a = (roots.cut(axes.matrix(x), scalars.block) for x in (gradient, mean, step))
        u = tf.matmul(tf.matmul(slots["left_root"], n), slots["right_root"])
        u = u if scalars.grafting is None else matrices.with_norm_of(u, a)
        u = tf.where(roots.are_axes(slots["left_root"]), a, u)  # as long as there are none
        u = roots.joined(u, axes.sizes(value.shape))
        for side in ("left", "right"):
            is_left = side == "left"
            outer = tf.matmul(g, g, transpose_a=not is_left, transpose_b=is_left)
            after[side] = formulas.moment(slots[side], outer, scalars.beta_2)
            after[f"{side}_root"] = slots[f"{side}_root"]
        return value - rate * axes.tensor(u, value.shape), after

    def refresh(
        self, value: tf.Tensor, slots: Mapping[str, tf.Tensor], scalars: Scalars
    ) -> dict[str, tf.Tensor]:
        """The new roots."""
        more = (scalars.root, scalars.epsilon, scalars.of_squares)
        return {f"{s}_root": roots.inverse_root(slots[s], *more) for s in ("left", "right")}
