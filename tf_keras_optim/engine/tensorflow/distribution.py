"""Where a step runs: alone, in a replica, or across replicas; under XLA, or watched."""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.tensorflow import tensorflow_private
from tf_keras_optim.engine.tensorflow.tensorflow_private import container as container
from tf_keras_optim.engine.tensorflow.tensorflow_private import in_xla as in_xla
from tf_keras_optim.engine.tensorflow.tensorflow_private import is_shared as is_shared
from tf_keras_optim.engine.tensorflow.tensorflow_private import is_watched as is_watched

_standing: contextvars.ContextVar[Mapping[int, tf.Variable] | None] = contextvars.ContextVar(
    "tf_keras_optim_standing", default=None
)


@contextlib.contextmanager
def standing_for(components: Mapping[int, tf.Variable]) -> Iterator[None]:
    """Lets distributed variables stand for certain components of theirs in a block.

    Args:
      components: by the ids of the variables.
    """
    token = _standing.set(components)
    try:
        yield
    finally:
        _standing.reset(token)


def stands() -> bool:
    """Says whether distributed variables stand for certain components of theirs now."""
    return _standing.get() is not None


def local(variable: tf.Variable) -> tf.Variable:
    """Returns the part of a distributed variable that this replica updates.

    In a replica this is the component on the replica's own device, elsewhere the
    primary one, or that which the variable stands for (`standing_for`); where all replicas
    have one variable (central storage), it is that. Plain variables come back unchanged.
    Assigning to a component needs no call across replicas.
    """
    if is_shared(variable):
        return variable.get()
    if not isinstance(variable, tf.distribute.DistributedValues):
        return variable
    components = _standing.get()
    if components is not None and id(variable) in components:
        return components[id(variable)]
    if tf.distribute.in_cross_replica_context():
        return tensorflow_private.primary(variable)
    return tensorflow_private.own(variable)


def set_everywhere(variable: tf.Variable, value: Any) -> None:
    """Sets every component of a variable, also in a replica, which cannot wait for others."""
    components = [variable]
    if is_shared(variable):
        components = [variable.get()]
    elif isinstance(variable, tf.distribute.DistributedValues):
        components = variable.values
    for component in components:
        component.assign(value)


def is_first_replica() -> bool:
    """Says whether this is the replica that updates what all replicas share."""
    number = tf.distribute.get_replica_context().replica_id_in_sync_group
    return not tf.get_static_value(number)


def place() -> tuple[tf.distribute.Strategy, int]:
    """Returns the active strategy and, in eager replica code, this replica's number."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return strategy, 0
    return strategy, int(tf.distribute.get_replica_context().replica_id_in_sync_group)


def across_replicas() -> bool:
    """Says whether this is the cross-replica context of a strategy with several replicas."""
    strategy = tf.distribute.get_strategy()
    return tf.distribute.in_cross_replica_context() and strategy.num_replicas_in_sync > 1


def is_outside(strategy: tf.distribute.Strategy) -> bool:
    """Says whether this is outside of all replicas of a strategy."""
    is_elsewhere = tf.distribute.get_strategy() is not strategy
    return is_elsewhere or tf.distribute.in_cross_replica_context()


def is_per_replica(gradient: Any) -> bool:
    """Says whether a gradient has a value of its own for each replica."""
    return isinstance(gradient, tf.distribute.DistributedValues)


def of_replica(value: Any, number: int) -> Any:
    """Returns what a value is in a replica, given by its number."""
    return value.values[number] if is_per_replica(value) else value


def sum_over_replicas(gradients: list[Any], dtype: str | None = None) -> list[Any]:
    """Sums each gradient over the replicas; every replica gets the sums.

    Args:
      gradients: list of tensors or `tf.IndexedSlices`, the same structure on
        every replica.
      dtype: dtype in which wider gradients travel, or `None` for their own.

    Returns:
      The list of sums, in the dtypes of the gradients, or the list itself where there
      is only one replica.
    """
    if number_of_replicas() == 1:
        return gradients
    context = tf.distribute.get_replica_context()
    own = [_own(_narrowed(gradient, dtype)) for gradient in gradients]
    sums = context.all_reduce(tf.distribute.ReduceOp.SUM, own)
    return [tf.cast(total, gradient.dtype) for total, gradient in zip(sums, gradients)]


def _narrowed(gradient: Any, dtype: str | None) -> Any:
    if dtype is None or gradient.dtype.size <= tf.as_dtype(dtype).size:
        return gradient
    return tf.cast(gradient, dtype)


def any_replica(flag: tf.Tensor) -> tf.Tensor:
    """Says on every replica whether a 0-d bool tensor is true on any of them."""
    context = tf.distribute.get_replica_context()
    count = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(flag, tf.float32))
    return count > 0.0


def number_of_replicas() -> int:
    """Returns how many replicas train together here."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def _own(gradient: Any) -> Any:
    """Returns a gradient as a tensor of this replica's, on its device; a sum needs to know it.

    A tensor that all replicas share would be taken for their sum, and count once.
    """
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.identity(gradient.values)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return tf.identity(gradient)


def check_scope(strategy: tf.distribute.Strategy, name: str) -> None:
    """Refuses an optimizer that was created outside the active strategy.

    Raises:
      ValueError: the active strategy is not the one the optimizer belongs to.
    """
    active = tf.distribute.get_strategy()
    if tf.distribute.has_strategy() and active is not strategy:
        raise ValueError(
            f"Optimizer {name!r} was created outside the scope of the active "
            f"{_described(active)}: it belongs to {_described(strategy)}, so its variables "
            "would not be updated alike in each replica. Create it inside "
            "`with strategy.scope():`, with the strategy that trains."
        )


def check_place(strategy: tf.distribute.Strategy, name: str) -> None:
    """Refuses a step that is taken elsewhere than where the optimizer's replicas are.

    Raises:
      ValueError: the active strategy is not the one the optimizer belongs to, and one of
        them has several replicas.
    """
    active = tf.distribute.get_strategy()
    if active is strategy or active.num_replicas_in_sync == strategy.num_replicas_in_sync == 1:
        return
    check_scope(strategy, name)
    raise ValueError(
        f"Optimizer {name!r} was created in the scope of {_described(strategy)}, but this "
        f"step is taken outside every scope, under {_described(active)}: it would move the "
        "weights of one replica only. Call `strategy.run(step)` with that strategy, or make "
        "the step inside `with strategy.scope():`."
    )


def _described(strategy: tf.distribute.Strategy) -> str:
    """Returns a strategy's class and its devices."""
    if strategy.num_replicas_in_sync == 1:
        return f"{type(strategy).__name__} (one replica)"
    devices = ", ".join(strategy.extended.worker_devices)
    return f"{type(strategy).__name__} ({strategy.num_replicas_in_sync} replicas: {devices})"


def check_variable_scope(
    strategy: tf.distribute.Strategy, variable: tf.Variable, path: str, name: str
) -> None:
    """Refuses a model variable that does not belong to the optimizer's strategy."""
    tensorflow_private.note_components(variable)
    if strategy.num_replicas_in_sync == 1:
        return
    if not strategy.extended.variable_created_in_scope(variable):
        raise ValueError(
            f"Variable {path!r} was created outside the scope of the "
            f"{type(strategy).__name__} that optimizer {name!r} belongs to. Create "
            "the model and the optimizer in the same `with strategy.scope():`."
        )


@contextlib.contextmanager
def entered(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Makes variables outside functions, in a strategy if none is entered already."""
    with contextlib.ExitStack() as scopes:
        scopes.enter_context(tf.init_scope())
        is_elsewhere = strategy is not tf.distribute.get_strategy()
        if not tf.distribute.has_strategy() and is_elsewhere:
            scopes.enter_context(strategy.scope())
        yield
