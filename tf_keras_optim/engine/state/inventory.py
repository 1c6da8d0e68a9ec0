"""The state variables of an optimizer in the order in which Keras lists them."""

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import evaluation


def listed(context: Context) -> list[tf.Variable]:
    """Returns all state variables: the counter, the learning rate (Keras 3), then the rest."""
    context.variables.find_own()
    store = context.store
    has_rate = store.rate is not None and context.keras.rate_is_state
    return [store.iterations, *([store.rate] if has_rate else []), *store.state()]


def by_name(context: Context) -> dict[str, tf.Variable]:
    """Returns state that has no place in Keras' positional layout, by name."""
    trained = evaluation.kept(context) if evaluation.is_on(context) else {}
    # Without slashes: an HDF5 file would make groups of them.
    numbered = enumerate(trained.values())
    named = {f"{evaluation.TRAINING}_{number}": v for number, v in numbered}
    return context.store.by_name() | named


def positional(context: Context) -> list[tf.Variable]:
    """Returns the state variables that have a place in Keras' positional layout."""
    named = {id(variable) for variable in by_name(context).values()}
    return [variable for variable in listed(context) if id(variable) not in named]


def name_of(context: Context, variable: tf.Variable) -> str:
    """Returns the name of a state variable in messages."""
    names = (name for name, one in context.store.named.items() if one is variable)
    return next(names, variable.name)
