"""The numbers of the last update, for whoever watches a run.

Nothing is measured until somebody asks: there is no variable, and no operation in any step.
Steps that are traced from then on leave their numbers in one variable, from which they are read
outside of functions. It is no part of the optimizer's state.
"""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.state.variables import StateVariables
from tf_keras_optim.engine.step.traces import Traces
from tf_keras_optim.engine.tensorflow import distribution, tensorflow_private
from tf_keras_optim.engine.update import turns

_HEAD = 2  # numbers on a board before the learning rates

_unwatched = contextvars.ContextVar("unwatched", default=False)


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """What is traced in this block measures nothing: it will run without this optimizer."""
    token = _unwatched.set(True)
    try:
        yield
    finally:
        _unwatched.reset(token)


@dataclasses.dataclass(eq=False)
class Board:
    """Where steps leave the numbers of one set of variables.

    Attributes:
      entries: the variables.
      groups: the groups that they belong to, that of the optimizer itself ("") first.
      numbers: float64 variable: the number of the update, the factor that all gradients were
        multiplied by, and the learning rate of each group; then for all variables the sums of
        squares of the gradient as it came, of the change, and of the weights before it.
    """

    entries: list[VariableState]
    groups: list[str]
    numbers: tf.Variable


@dataclasses.dataclass(frozen=True)
class Measured:
    """The numbers of one update, outside of functions.

    Attributes:
      number: the number of the update.
      entries: the variables.
      rates: the learning rate of each group.
      gradients: for each variable the norm of its gradient, before it was clipped.
      changes: the norm of what the update changed of it.
      weights: the norm of what it was before.
    """

    number: int
    entries: Sequence[VariableState]
    rates: dict[str, float]
    gradients: np.ndarray
    changes: np.ndarray
    weights: np.ndarray


class Watch:
    """Whether steps measure, and what the last one found.

    Args:
      variables: makes variables.
      traces: the steps that were traced.

    Attributes:
      is_on: whether steps that are traced from now on measure.
      has_missed: whether somebody's function holds a step that was traced before.
    """

    def __init__(self, variables: StateVariables, traces: Traces):
        self._variables = variables
        self._traces = traces
        self._boards: list[Board] = []
        self._clipped: tf.Variable | None = None
        self.is_on = False
        self.has_missed = False

    def begin(self) -> None:
        """Has steps measure that are traced from now on; eager steps are traced anew."""
        if not self.is_on:
            self.is_on = True
            self.has_missed = self._traces.in_graph
            self._traces.forget()

    def made_anew(self) -> None:
        """Takes note that functions with steps that were traced before are made anew."""
        self.has_missed = False

    def is_on_here(self) -> bool:
        """Whether what is traced now measures."""
        return self.is_on and not (_unwatched.get() or tensorflow_private.in_save_context())

    # In a step.

    def board(self, entries: Sequence[VariableState]) -> Board:
        """Returns where the numbers of a set of variables stand."""
        groups = ["", *sorted({entry.group for entry in entries} - {""})]
        for board in self._boards:
            if board.entries == entries and board.groups == groups:
                return board
        size = _HEAD + len(groups) + 3 * len(entries)
        board = Board(list(entries), groups, self._made("watched", size, math.nan))
        self._boards.append(board)
        return board

    def count(self, clipped: tf.Tensor) -> None:
        """Counts an update, and whether a clip limited anything in it, a 0-d bool."""
        if self._clipped is None:
            self._clipped = self._made("watched_clips", 2, 0.0)
        one = tf.ones([], tf.float64)
        counts = tf.stack([tf.cast(clipped, tf.float64), one])
        distribution.local(self._clipped).assign_add(counts)

    def _made(self, name: str, size: int, value: float) -> tf.Variable:
        def start() -> tf.Tensor:
            return tf.fill([size], tf.constant(value, tf.float64))

        return self._variables.make(name, start, aggregated=True)

    # Outside of functions.

    def clipped(self) -> tuple[int, int]:
        """Returns how many updates were clipped, of how many that were measured."""
        if self._clipped is None:
            return 0, 0
        clipped, measured = distribution.local(self._clipped).numpy()
        return int(clipped), int(measured)

    def of_update(self, number: int) -> Measured | None:
        """Returns what was measured in the update with a number; `None` if nothing was.

        Where workers do not wait for each other, several updates may have one number, and
        none the last one. There it is what was measured in the latest update.
        """
        found = [(b, distribution.local(b.numbers).numpy()) for b in reversed(self._boards)]
        found = [(board, numbers) for board, numbers in found if numbers[0] > 0.0]
        if not turns.is_asynchronous(self._variables.strategy):
            found = [(board, numbers) for board, numbers in found if numbers[0] == number]
        return _measured(*max(found, key=lambda pair: pair[1][0])) if found else None


def _measured(board: Board, numbers: np.ndarray) -> Measured:
    head = _HEAD + len(board.groups)
    norms = np.sqrt(np.reshape(numbers[head:], [3, len(board.entries)]))
    rates = dict(zip(board.groups, map(float, numbers[_HEAD:head])))
    gradients, changes, weights = norms[0] * abs(numbers[1]), norms[1], norms[2]
    return Measured(int(numbers[0]), board.entries, rates, gradients, changes, weights)
