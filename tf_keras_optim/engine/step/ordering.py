"""The order of a graph's operations: updates of variables after all that may raise."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.tensorflow import tensorflow_private


@dataclasses.dataclass(frozen=True)
class _Update:
    """Operations of an optimizer's step in a graph.

    Attributes:
      graph: the graph.
      gate: what all of the operations wait for.
      begin: the number of operations that were there before.
      end: the number of operations afterwards.
    """

    graph: tf.Graph
    gate: tf.Operation
    begin: int
    end: int


_updates: contextvars.ContextVar[list[_Update] | None] = contextvars.ContextVar(
    "tf_keras_optim_updates", default=None
)


@contextlib.contextmanager
def collected() -> Iterator[list[_Update]]:
    """Orders the steps that are traced in this block, and yields them for `run_last`."""
    found: list[_Update] = []
    token = _updates.set(found)
    try:
        yield found
    finally:
        _updates.reset(token)


@contextlib.contextmanager
def update(gradients: Sequence[Any]) -> Iterator[bool]:
    """Traces a step in this block; if steps are ordered, it waits for what was traced before.

    Args:
      gradients: what the step is given; it waits for all of it before it changes anything.

    Yields:
      Whether steps are ordered.
    """
    found = _updates.get()
    if found is None or tf.executing_eagerly():
        yield False
        return
    graph = tf.compat.v1.get_default_graph()
    given = [tensor.op for tensor in tf.nest.flatten(list(gradients), expand_composites=True)]
    effects = [operation for operation in graph.get_operations() if _has_effect(operation)]
    with tf.control_dependencies([*given, *effects]):
        gate = tf.no_op("before_update")
    begin = len(graph.get_operations())
    with tf.control_dependencies([gate]):
        yield True
    found.append(_Update(graph, gate, begin, len(graph.get_operations())))


def run_last(updates: Sequence[_Update], outputs: Any) -> None:
    """Lets steps wait for the rest of their graph too, but for what needs their values.

    Args:
      updates: the steps, from `collected`; those in other graphs than this one, as in the
        branch of a condition, stay as they are.
      outputs: tensors that the graph's function returns, in any structure.
    """
    graph = tf.compat.v1.get_default_graph()
    returned = [t.op for t in tf.nest.flatten(outputs) if getattr(t, "graph", None) is graph]
    for step in updates:
        if step.graph is not graph:
            continue
        operations = graph.get_operations()
        later = _dependents(operations, step)
        effects = [operation for operation in operations[step.end :] if _has_effect(operation)]
        awaited = {op: None for op in (*effects, *returned) if op not in later}
        tensorflow_private.add_control_inputs(step.gate, list(awaited))


def _has_effect(operation: tf.Operation) -> bool:
    """Whether an operation does more than compute: assertions and assignments do."""
    return operation.op_def.is_stateful and operation.type != "ReadVariableOp"


def _dependents(operations: Sequence[tf.Operation], step: _Update) -> set[tf.Operation]:
    """Returns a step's operations, and those that are to run after one of them.

    TensorFlow runs what uses one resource in the order in which it was traced.
    """
    found = set(operations[step.begin : step.end])
    resources = {handle for operation in found for handle in _resources(operation)}
    for operation in operations[step.end :]:
        before = {tensor.op for tensor in operation.inputs} | set(operation.control_inputs)
        if not found.isdisjoint(before) or not resources.isdisjoint(_resources(operation)):
            found.add(operation)
    return found


def _resources(operation: tf.Operation) -> set[str]:
    """Returns names of the resources that an operation is given.

    Effects without any, such as those of assertions, count as effects on one: TensorFlow
    keeps their order as well.
    """
    found = {_origin(tensor) for tensor in operation.inputs if tensor.dtype == tf.resource}
    return found or ({""} if _has_effect(operation) else found)


def _origin(tensor: tf.Tensor) -> str:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor.name
