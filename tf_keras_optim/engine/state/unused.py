"""State variables that an option has put out of use, until another puts them into use again."""

from collections.abc import Collection

import tensorflow as tf

from tf_keras_optim.engine.state.slots import STARTED
from tf_keras_optim.engine.state.store import VariableState


def put_away(
    entry: VariableState, slots: Collection[str], *, average: bool, accumulator: bool
) -> None:
    """Takes out of use what is no longer asked for; takes into use again what is.

    What is out of use is neither updated nor saved. A slot and an average come back with
    their values, an accumulator of gradients empty.

    Args:
      entry: the model variable.
      slots: the names of the slots that are asked for.
      average: whether a moving average is.
      accumulator: whether accumulated gradients are.
    """
    beside = (("_scale", entry.scales), (STARTED, entry.started))
    for name in set(entry.slots) - set(slots):
        entry.unused[name] = entry.slots.pop(name)
        for kind, kept in beside:
            if name in kept:
                entry.unused[name + kind] = kept.pop(name)
    for name in set(entry.unused) & set(slots):
        entry.slots[name] = entry.unused.pop(name)
        for kind, kept in beside:
            if name + kind in entry.unused:
                kept[name] = entry.unused.pop(name + kind)
    for kind, wanted in (("average", average), ("accumulator", accumulator)):
        kept = getattr(entry, kind)
        if kept is not None and not wanted:
            entry.unused[f" {kind}"] = kept
            setattr(entry, kind, None)
        elif kept is None and wanted and f" {kind}" in entry.unused:
            again = entry.unused.pop(f" {kind}")
            if kind == "accumulator":
                with tf.init_scope():
                    again.assign(tf.zeros_like(again))
            setattr(entry, kind, again)
