"""First values that are taken from a model variable when the next step is prepared.

A layer that is built while a function is traced makes variables without values. TensorFlow
gives them their values when that trace is done, and then traces the function again before
it runs. A state variable that starts from such a value is made with zeros, and takes its
start when the function is traced again; no step has an operation for it. So do averages that
are made after steps, as weights may be loaded between `build` and the next one; the first
averages of all equal the weights after the first update. A master copy counts only where it
rounds to the weight, whatever it started from. What has to start at the first update of its
own variable is in `first_updates`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.tensorflow import distribution


def has_value(variable: tf.Variable) -> bool:
    """Says whether a variable has a value that can be read outside functions."""
    with tf.init_scope():
        return not tf.executing_eagerly() or bool(variable.is_initialized())


def value_of(variable: tf.Variable) -> np.ndarray | None:
    """Returns a variable's value, `None` where it has none yet."""
    return np.asarray(variable.numpy()) if has_value(variable) else None


@dataclasses.dataclass(frozen=True)
class _Start:
    """A state variable that waits for its first value.

    Attributes:
      variable: the state variable.
      beside: the model variable whose value it needs.
      start: returns its first value.
      calls: how many steps there had been when it was made.
      required: whether zeros can stand for its first value in no step at all.
      is_empty: whether it was made with zeros.
    """

    variable: tf.Variable
    beside: tf.Variable
    start: Callable[[], tf.Tensor]
    calls: int
    required: bool
    is_empty: bool


class Starts:
    """The state variables whose first values are still to be taken."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Start] = {}

    def add(
        self,
        variable: tf.Variable,
        beside: tf.Variable,
        start: Callable[[], tf.Tensor],
        calls: int,
        required: bool,
        is_empty: bool,
    ) -> None:
        """Remembers a state variable; see `_Start`."""
        waiting = _Start(variable, beside, start, calls, required, is_empty)
        self._waiting[id(variable)] = waiting

    def drop(self, variable: tf.Variable) -> None:
        """Forgets a state variable that was given a value in another way."""
        self._waiting.pop(id(variable), None)

    def take(self, iterations: tf.Variable) -> None:
        """Gives each state variable its first value, if the value it needs is there by now.

        A variable that was given a value meanwhile (from a checkpoint), or for which steps
        have been made meanwhile, keeps what it has.

        Args:
          iterations: the component of the counter on this device.
        """
        if not self._waiting:
            return
        with tf.init_scope():
            calls = int(iterations.numpy())
            for waiting in list(self._waiting.values()):
                if has_value(waiting.beside):
                    self.drop(waiting.variable)
                    untouched = not (waiting.is_empty and np.any(waiting.variable.numpy()))
                    if waiting.calls == calls and untouched:
                        distribution.set_everywhere(waiting.variable, waiting.start())

    def recount(self, before: int, new: int) -> None:
        """Goes by another number of calls that make an update; so many made one before."""
        for key, waiting in self._waiting.items():
            calls = waiting.calls // before * new
            self._waiting[key] = dataclasses.replace(waiting, calls=calls)

    def calls_before(self, variable: tf.Variable | None) -> int | None:
        """Returns how many steps came before a variable that waits; else `None`."""
        found = self._waiting.get(id(variable))
        return None if found is None else found.calls

    def check(self, title: str) -> None:
        """Makes a step that would need a first value which is not there raise when it runs.

        It runs only where TensorFlow cannot compute the first values of the model's
        variables without the arguments of the function that makes them.
        """
        for waiting in self._waiting.values():
            if waiting.required:
                tf.debugging.Assert(
                    tf.constant(False),
                    [
                        f"{title}: the state variable {waiting.variable.name!r} starts from "
                        f"the value of {waiting.beside.name!r}, which is made in the "
                        "function that takes this step and depends on its arguments. Build "
                        "the model before the function is called for the first time."
                    ],
                )
