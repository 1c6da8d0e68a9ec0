"""Updates of one variable by workers that do not wait for each other: one after another.

Under parameter servers an update that is several operations, which read, compute and assign,
would lose what another worker assigns in between. A kernel that XLA compiles and a training
operation of TensorFlow lock what they update by themselves.
"""

import weakref
from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_keras_optim.engine.tensorflow import distribution, placement
from tf_keras_optim.engine.update.plans import StepPlan

# By the ids of variables; an entry goes with its variable.
_known: dict[int, tuple[weakref.ref, tf.CriticalSection]] = {}


def are_asynchronous() -> bool:
    """Says whether several workers take steps without waiting for each other here."""
    return is_asynchronous(tf.distribute.get_strategy())


def is_asynchronous(strategy: tf.distribute.Strategy) -> bool:
    """Says whether the workers of a strategy do not wait for each other."""
    return isinstance(strategy, tf.distribute.ParameterServerStrategy)


def check(title: str, plan: StepPlan, has_scale: bool) -> None:
    """Refuses steps whose parts must follow one another, where other workers come between.

    Args:
      title: what messages call the optimizer.
      plan: what a step does.
      has_scale: whether there is a dynamic loss scale.

    Raises:
      ValueError: it accumulates gradients, or there is such a scale.
    """
    if not are_asynchronous():
        return
    asked, why = "", ""
    if plan.calls > 1:
        asked = f"`gradient_accumulation_steps={plan.calls}`"
        why = "the calls of several workers would end a window together, or none would"
    elif has_scale:
        asked = "a LossScaleOptimizer"
        why = "another worker may change the scale between a worker's loss and its gradients"
    if asked:
        raise ValueError(
            f"{title}: {asked} is not possible under ParameterServerStrategy, whose workers "
            f"do not wait for each other: {why}. Leave it out, or train under "
            "MultiWorkerMirroredStrategy."
        )


def alone(
    variable: tf.Variable, inputs: Sequence[tf.Tensor], update: Callable[[], None]
) -> None:
    """Updates a variable while no other worker updates it.

    Args:
      variable: the variable.
      inputs: what the update needs; nobody else waits until it is there.
      update: the update.
    """
    if not are_asynchronous() or distribution.in_xla():
        update()
        return
    with tf.control_dependencies(inputs):
        _lock_of(variable).execute(lambda: _done(update), exclusive_resource_access=False)


def _lock_of(variable: tf.Variable) -> tf.CriticalSection:
    key = id(variable)
    found = _known.get(key)
    if found is not None and found[0]() is variable:
        return found[1]

    def forget(_: weakref.ref) -> None:
        _known.pop(key, None)

    with tf.init_scope(), placement.beside(variable):
        name = f"{variable.name.split(':')[0]}_{key}"
        lock = tf.CriticalSection(shared_name=f"tf_keras_optim_{name}")
    _known[key] = (weakref.ref(variable, forget), lock)
    return lock


def _done(update: Callable[[], None]) -> tf.Tensor:
    """Returns a tensor that is there once the update has had its effects."""
    if tf.executing_eagerly():
        update()
        return tf.constant(True)
    graph = tf.compat.v1.get_default_graph()
    begin = len(graph.get_operations())
    update()
    made = graph.get_operations()[begin:]
    with tf.control_dependencies([op for op in made if op.op_def.is_stateful]):
        return tf.constant(True)
