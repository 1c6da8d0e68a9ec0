"""What is measured around one update: norms of gradients, of changes and of weights.

It stands outside of the kernels, so these are what they are where nobody watches.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.numerics import formulas, norms, precision
from tf_keras_optim.engine.options import is_lazy
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step.factors import Factors, Pairs, given
from tf_keras_optim.engine.step.loss_scaler import FiniteCheck
from tf_keras_optim.engine.tensorflow import distribution, placement
from tf_keras_optim.engine.update import plans
from tf_keras_optim.engine.update.plans import StepPlan


class Measuring:
    """Measures one update; made before anything moves.

    Norms of gradients that a clip or the search for what is not finite has computed are not
    computed again. Of a variable that is updated row by row, the rows with a gradient count.

    Args:
      context: what the optimizer's parts share.
      step: what the step does.
      learned: the variables and their gradients.
      factors: what the gradients are multiplied by.
      check: what was found about the gradients, if they were looked at.
      gathered: by the ids of their entries, whether variables take part; those that are not
        there do.
    """

    def __init__(
        self,
        context: Context,
        step: StepPlan,
        learned: Pairs,
        factors: Factors,
        check: FiniteCheck | None,
        gathered: Mapping[int, tf.Tensor],
    ):
        self._watch = context.watch
        self._learned = learned
        self._common = factors.common
        self._gathered = gathered
        if factors.norms is not None:
            self._gradients = tf.square(factors.norms.values)
        elif check is not None and check.squares is not None:
            self._gradients = check.squares
        else:
            self._gradients = norms.squares([given(entry, g) for entry, g in learned])
        self._clipped = _clipped(step, learned, factors)
        self._context = context
        self._before = [self._value(entry, gradient) for entry, gradient in learned]

    def end(self, updates: tf.Tensor, rate_of: Callable[[str], tf.Tensor]) -> None:
        """Takes the numbers down, after everything has moved.

        Args:
          updates: the number of updates before this one.
          rate_of: returns the learning rate of a group.
        """
        board = self._watch.board([entry for entry, _ in self._learned])
        changes = []
        for (entry, gradient), before in zip(self._learned, self._before):
            with placement.beside(distribution.local(entry.variable)):
                changes.append(self._value(entry, gradient) - before)
        squares = norms.squares([*changes, *self._before])
        if self._gathered:
            flags = [self._gathered.get(id(e), tf.constant(True)) for e, _ in self._learned]
            squares = tf.where(tf.tile(tf.stack(flags), [2]), squares, tf.zeros_like(squares))
        head = [updates + 1, self._common, *map(rate_of, board.groups)]
        first = tf.stack([tf.cast(number, tf.float64) for number in head])
        numbers = tf.concat([first, self._gradients, squares], 0)
        distribution.local(board.numbers).assign(numbers)
        if self._clipped is not None:
            self._watch.count(self._clipped)

    def _value(self, entry: VariableState, gradient: Any) -> tf.Tensor:
        """Returns a variable, or the rows of it that are updated, with all its digits."""
        rows = None
        if isinstance(gradient, tf.IndexedSlices) and is_lazy(
            self._context.options, entry.path
        ):
            rows = gradient.indices

        def read(variable: tf.Variable) -> tf.Tensor:
            own = distribution.local(variable)
            return own.read_value() if rows is None else own.sparse_read(rows)

        with placement.beside(distribution.local(entry.variable)):
            master = None if entry.master is None else read(entry.master)
            value = precision.widest(read(entry.variable), master, entry.dtype)
            if rows is None or not distribution.in_xla():
                return value
            # XLA reads other rows in the place of surplus ones, which do not exist.
            exist = tf.logical_and(rows >= 0, rows < entry.variable.shape[0])
            exist = tf.reshape(exist, [-1, *[1] * (value.shape.rank - 1)])
            return tf.where(exist, value, tf.zeros_like(value))


def _clipped(step: StepPlan, learned: Pairs, factors: Factors) -> tf.Tensor | None:
    """Returns whether a clip limits anything, a 0-d bool; `None` where there is no clip."""
    found = []
    if factors.norms is not None:
        together = step.clips == plans.TOGETHER
        values = factors.norms.total().values if together else factors.norms.values
        found.append(tf.reduce_any(values * factors.common > step.limit))
    if step.clipvalue is not None:
        for (entry, gradient), scale in zip(learned, factors.scales):
            with placement.beside(distribution.local(entry.variable)):
                wide = tf.cast(given(entry, gradient), entry.dtype)
                size = tf.abs(formulas.conditioned(wide, scale, None))
                found.append(tf.reduce_any(size > step.clipvalue))
    return tf.reduce_any(tf.stack(found)) if found else None
