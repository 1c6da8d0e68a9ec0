"""Putting an optimizer's state back to where a new optimizer's would be."""

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import inventory, late


def reset(context: Context) -> None:
    """Sets all state variables but the rate to their first values; also in a graph."""
    store, variables = context.store, inventory.listed(context)
    for variable in variables:
        if variable is not store.rate and variable is not store.multiplier:
            variable.assign(store.starts[id(variable)]())
    store.was_set(variables)
    if store.evaluating is not None:
        store.evaluating.assign(tf.zeros([], tf.int64))
    if tf.executing_eagerly():
        late.clear(context)
