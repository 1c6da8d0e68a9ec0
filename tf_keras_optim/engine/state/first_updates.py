"""Slots that start from their variable's value, which counts when it is updated first.

Weights may be loaded after the slots were made, and a variable may get its first gradient
late. So such a slot has a number beside it, 0 until it has taken its first value, which is
saved with it. A step asks these numbers before it updates anything, under one condition; where
no slot starts so, it has no operation for it.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from tf_keras_optim.engine.numerics import loops, precision
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution, placement


def begin(entries: Sequence[VariableState], gathered: Mapping[int, tf.Tensor]) -> None:
    """Gives slots their first values, where the update that comes is the first.

    Args:
      entries: the variables that are to be updated.
      gathered: by the ids of their entries, whether variables are updated at all.
    """
    slots = [(entry, name) for entry in entries for name in entry.started]
    if not slots:
        return
    waiting = []
    for entry, name in slots:
        started = distribution.local(entry.started[name]).read_value()
        waits, taken = tf.equal(started, 0), gathered.get(id(entry))
        waiting.append(waits if taken is None else tf.logical_and(waits, taken))

    def start() -> None:
        for (entry, name), waits in zip(slots, waiting):
            _start(entry, name, waits)

    loops.choose(tf.reduce_any(tf.stack(waiting)), start)


def _start(entry: VariableState, name: str, waits: tf.Tensor) -> None:
    """Gives a slot the value of its variable, with all digits that are kept."""
    variable, slot, started = (
        distribution.local(v) for v in (entry.variable, entry.slots[name], entry.started[name])
    )
    (declared,) = (kept for kept in entry.declared if kept.name == name)
    with placement.beside(variable):
        master = None if entry.master is None else distribution.local(entry.master).read_value()
        whole = precision.widest(variable.read_value(), master, entry.dtype)
        value = declared.sampled(whole)
        slot.assign(tf.where(waits, tf.cast(value, slot.dtype), slot.read_value()))
        started.assign(tf.maximum(started.read_value(), tf.cast(waits, started.dtype)))
