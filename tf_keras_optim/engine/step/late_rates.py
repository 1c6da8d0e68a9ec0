"""Learning rates that a traced function is given when it is called.

A traced function holds the schedule that it was traced with. Therefore it takes in one more
array at every call: as a rule one that says nothing, but the rates of the next updates where
the optimizer follows another schedule by now, or one that cannot be traced.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.tensorflow import distribution, tensorflow_private

AHEAD = 1024  # updates that are computed at a time; twice as many as one call may make, or more

_fixed = contextvars.ContextVar("fixed", default=False)
_NOTHING = -np.inf

# What a schedule in plain Python raises when its step is no number yet.
_NOT_TRACEABLE = (TypeError, ValueError, AttributeError, NotImplementedError)


class UntraceableError(TypeError):
    """A schedule cannot be traced into a graph.

    Attributes:
      name: the hyperparameter that follows it.
    """

    def __init__(self, name: str, source: Any, title: str):
        super().__init__(
            f"{title}: `{name}` follows {source!r}, which fails inside a traced function, "
            "where the step is a tensor without a value. Write the schedule with TensorFlow's "
            "operations (`tf.where(step < 10, 0.1, 0.01)` instead of `if step < 10`), or take "
            "the steps outside of `tf.function`."
        )
        self.name = name


@contextlib.contextmanager
def fixed() -> Iterator[None]:
    """What is traced in this block keeps its schedule: it will run without Python."""
    token = _fixed.set(True)
    try:
        yield
    finally:
        _fixed.reset(token)


def is_of_this_moment(value: Any) -> bool:
    """Says whether a graph would keep a value as it is now: a number or an eager tensor."""
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        return True
    is_variable = isinstance(value, tf.Variable)
    return tf.is_tensor(value) and not is_variable and hasattr(value, "numpy")


def number(value: Any, title: str) -> tf.Tensor:
    """Returns a learning rate that a schedule or callable gave, as a 0-d tensor.

    Args:
      value: a number, tensor or variable.
      title: the optimizer, for the message.

    Returns:
      A tensor of dtype float64 where the value is one, or a Python number; else float32.

    Raises:
      ValueError: it has a shape.
    """
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        value = np.asarray(value, np.float64)
    tensor = tf.convert_to_tensor(value)
    if tensor.shape.rank not in (0, None):
        raise ValueError(
            f"{title}: a schedule or callable for `learning_rate` must return one number. "
            f"Received: a value of shape {tensor.shape}."
        )
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)


def value_of(source: Any, updates: tf.Tensor, name: str, title: str) -> Any:
    """Returns what a schedule gives after a number of updates.

    Raises:
      UntraceableError: it raises in a graph; outside of one its own error goes through.
    """
    if tf.is_tensor(updates) and not hasattr(updates, "numpy"):
        try:
            return source(updates)
        except _NOT_TRACEABLE as error:
            raise UntraceableError(name, source, title) from error
    return source(updates)


class RateSupply:
    """Computes the rates of the next updates outside of functions.

    Args:
      context: what the parts of the optimizer share.
      rate_at: returns the rate after a number of updates.
    """

    def __init__(self, context: Context, rate_at: Callable[[Any], tf.Tensor]):
        self._context = context
        self._rate_at = rate_at
        self._nothing: tf.Tensor | None = None
        self._source: Any = None
        self._start = self._last = 0
        self._table: tf.Tensor | None = None
        self._holds_for_good = False  # a function was traced that is given nothing at its calls

    def captured(self, traced: bool) -> tf.Tensor | None:
        """Returns in a graph the array that it is given at every call; `None` if it cannot be.

        Args:
          traced: whether the graph holds the rate itself, so that as a rule nothing is to be
            given.

        Raises:
          RuntimeError: nothing can be given, and the graph does not hold the rate.
        """
        if _fixed.get() or tensorflow_private.in_save_context():
            return None
        graph = tensorflow_private.function_graph()
        if graph is None:
            if tensorflow_private.lacks_call_time_values():
                self._note_trace(traced)
            return None
        store = self._context.store
        rate, source = store.rate, store.rate_source

        def value() -> tf.Tensor:
            same = store.rate is rate and store.rate_source is source
            return self._nothing_given() if traced and same else self._rates()

        key = ("learning rate", id(self._context), id(rate), id(source), traced)
        otherwise = self._nothing_given() if traced else None
        return tensorflow_private.captured_in(graph, key, value, otherwise)

    def _note_trace(self, traced: bool) -> None:
        """Notes that a function is traced which is given nothing at its calls.

        Raises:
          RuntimeError: it does not hold the rate itself.
        """
        if not traced:
            raise tensorflow_private.call_time_error(
                f"{self._context.title} follows {self._context.store.rate_source!r}, "
                "which Python computes, and a traced function cannot ask for it. Give it a "
                "number or a schedule of TensorFlow's operations, or take eager steps."
            )
        self._holds_for_good = True

    def check_replacing(self) -> None:
        """Refuses another rate in the place of one that a traced function holds for good.

        Raises:
          RuntimeError: there is such a function.
        """
        if self._holds_for_good:
            raise tensorflow_private.call_time_error(
                f"the `learning_rate` of {self._context.title} cannot be replaced by "
                "another variable, schedule or callable after a function was traced, which "
                "would go on with the old one. Assign a number, or make the optimizer anew."
            )

    def _nothing_given(self) -> tf.Tensor:
        """Returns the array that leaves a function with the rate it was traced with."""
        if self._nothing is None:
            with tf.init_scope():
                self._nothing = tf.constant([_NOTHING], tf.float64)
        return self._nothing

    def _rates(self) -> tf.Tensor:
        """Returns rates, float64 [n]: that of update u stands at place u modulo n."""
        store = self._context.store
        source = store.rate_source
        if store.multiplier is None:
            rate = self._rate_at(None)
            return tf.reshape(tf.cast(rate, tf.float64), [1])
        first = int(self._context.counter.updates())
        if self._source is not source or not self._start <= first <= self._start + AHEAD // 2:
            self._check_progress(source, first)
            self._compute(source, first)
        self._last = first
        assert self._table is not None
        factor = distribution.local(store.multiplier).read_value()
        return self._table * tf.cast(factor, tf.float64)

    def _check_progress(self, source: Any, first: int) -> None:
        """Raises if the call before made more updates than it had rates for."""
        if self._source is source and first > self._start + AHEAD and first > self._last:
            raise RuntimeError(
                f"{self._context.title}: one call of a function made {first - self._last} "
                f"updates. Where a schedule was assigned after that function had been traced, "
                f"or cannot be traced, a call may make {AHEAD // 2}. Make the function anew, "
                "e.g. by `model.compile`, or let it take fewer steps."
            )

    def _compute(self, source: Any, first: int) -> None:
        title = self._context.title

        def at(step: tf.Tensor) -> tf.Tensor:
            value = value_of(source, step, "learning_rate", title)
            return tf.cast(number(value, title), tf.float64)

        steps = np.arange(first, first + AHEAD, dtype=np.int64)
        one = tf.function(at, autograph=False)
        together = tf.function(
            lambda: tf.map_fn(one, tf.constant(steps), fn_output_signature=tf.float64),
            autograph=False,
        )
        try:
            one.get_concrete_function(tf.TensorSpec([], tf.int64))  # `map_fn` must not fail
            values = together()
        except (UntraceableError, tf.errors.OpError):
            values = _one_by_one(at, steps)
        self._table = tf.roll(values, first % AHEAD, axis=0)
        self._source, self._start, self._last = source, first, first


def _one_by_one(at: Callable[[tf.Tensor], tf.Tensor], steps: np.ndarray) -> tf.Tensor:
    """Returns the rates of steps, NaN from the first on that has none, as a table may end."""
    values = [at(tf.constant(steps[0]))]
    for step in steps[1:]:
        try:
            values.append(at(tf.constant(step)))
        except Exception:  # raised again when the training comes to this step
            break
    return tf.stack(values + [tf.constant(np.nan, tf.float64)] * (len(steps) - len(values)))


def chosen(given: tf.Tensor, updates: tf.Tensor, traced: tf.Tensor | None) -> tf.Tensor:
    """Returns the rate of the next update: the one that is given, or else the traced one.

    Args:
      given: what `RateSupply.captured` returned.
      updates: number of updates so far, 0-d int64.
      traced: the rate of the graph, or `None` if it has none.
    """
    late = tf.gather(given, tf.math.floormod(updates, tf.size(given, tf.int64)))
    if traced is None:
        return late
    return tf.where(late == _NOTHING, tf.cast(traced, tf.float64), late)
