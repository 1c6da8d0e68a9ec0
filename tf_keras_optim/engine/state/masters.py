"""Master copies, one for each variable, however many optimizers update it.

What a step adds below the digits of a narrow variable is in the master copy alone. Optimizers
with a copy each would lose one another's steps, so those of a process that update one variable
work on one copy. It lasts as long as one of them does.
"""

import weakref
from collections.abc import Callable

import tensorflow as tf

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.nature import is_pure
from tf_keras_optim.engine.numerics import precision
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.state import starts
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution

_known: dict[int, tuple[weakref.ref, weakref.ref]] = {}  # by the id of the variable


def are_wanted(context: Context, entry: VariableState) -> bool:
    """Says whether an optimizer is to have a master copy of a variable."""
    options = context.options
    narrow = entry.variable.dtype.size < entry.dtype.size
    wanted = bool(options.master_weights) and not options.stochastic_rounding
    return narrow and wanted and is_pure(context.algorithm)


def check(context: Context, algorithm: Algorithm, entry: VariableState) -> None:
    """Refuses a narrow variable without a master copy where the algorithm needs its digits.

    Args:
      context: what the parts of the whole optimizer share.
      algorithm: what updates the variable.
      entry: the variable.

    Raises:
      ValueError: it is one.
    """
    if entry.variable.dtype.size >= entry.dtype.size or are_wanted(context, entry):
        return
    if algorithm.needs_master_weights:
        cls, options = class_of(algorithm).__name__, context.options
        name = "stochastic_rounding" if options.stochastic_rounding else "master_weights"
        raise ValueError(
            f"{context.title}: {cls} compares weights with earlier ones, so variable "
            f"{entry.path!r}, which is {entry.variable.dtype.name}, needs a float32 copy. "
            f"Received: `{name}`={getattr(options, name)!r}. Leave it out, or make the "
            "variable float32."
        )


def check_other(context: Context, entry: VariableState) -> None:
    """Refuses a variable whose master copy another optimizer keeps on other devices.

    Raises:
      ValueError: it is one.
    """
    known = _of_other(entry.variable) if are_wanted(context, entry) else None
    if known is not None and not context.sharding.suits(entry.variable, known):
        raise ValueError(
            f"{context.title}: variable {entry.path!r}, which is {entry.variable.dtype.name}, "
            "has a master copy of another optimizer, which is not where this one would keep "
            f"it: `shard_slots`={context.options.shard_slots} here. Give all optimizers of one "
            "variable the same `shard_slots` and the same list of variables."
        )


def make(make_for: Callable[..., tf.Variable], entry: VariableState) -> tf.Variable:
    """Returns the master copy of a variable for an optimizer, made by it or by another one."""
    variable = entry.variable
    known = _shared(variable)
    master = make_for(
        entry,
        "master",
        lambda: tf.cast(variable.read_value(), entry.dtype),
        reads=True,
        known=known,
    )
    if known is None:
        _share(variable, master)
    return master


def _share(variable: tf.Variable, master: tf.Variable) -> None:
    """Lets other optimizers find the master copy of a variable."""
    key = id(variable)

    def forget(_: weakref.ref) -> None:
        found = _known.get(key)
        if found is not None and found[0]() is None:
            _known.pop(key, None)

    _known[key] = (weakref.ref(variable, forget), weakref.ref(master))


def _shared(variable: tf.Variable) -> tf.Variable | None:
    """Returns the master copy that another optimizer has made of a variable, `None` if none.

    It has the digits of the steps so far. Where someone has set the variable since, the copy
    starts anew from the variable's value.
    """
    master = _of_other(variable)
    if master is not None and starts.has_value(variable):
        with tf.init_scope():
            if tf.executing_eagerly():
                value = distribution.local(variable).read_value()
                whole = distribution.local(master).read_value()
                if not tf.reduce_all(precision.rounds_to(whole, value)):
                    distribution.set_everywhere(master, tf.cast(value, master.dtype))
    return master


def _of_other(variable: tf.Variable) -> tf.Variable | None:
    """Returns the master copy that there is of a variable, as it is; `None` if none."""
    found = _known.get(id(variable))
    if found is None or found[0]() is not variable:
        return None
    return found[1]()
