"""TensorFlow's private API about contexts, variables, functions and graphs.

Nothing else in the package uses it; what checkpoints need of it is in
`tensorflow_private_tracking`. A name that TensorFlow has moved or dropped fails no import: each
function looks for what it needs when it is called, and says what happens without.
"""

import importlib
import inspect
import operator
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.tensorflow import missing


def _module(name: str) -> Any:
    """Returns a module of TensorFlow's, or `None` where there is none of this name."""
    try:
        return importlib.import_module(f"tensorflow.python.{name}")
    except ImportError:
        return None


_control_flow = _module("ops.control_flow_util")
_callbacks = _module("framework.op_callbacks")
_distribute_lib = _module("distribute.distribute_lib")
_ps_values = _module("distribute.ps_values")
_save_context = _module("saved_model.save_context")


def error(name: str, consequence: str) -> RuntimeError:
    """Returns the error about a name that TensorFlow no longer has."""
    return missing.error("TensorFlow", tf.__version__, name, consequence)


# Contexts.


def in_xla() -> bool:
    """Says whether what is traced now becomes part of an XLA compilation.

    Needs `control_flow_util.GraphOrParentsInXlaContext`. Without it the answer is no: a step
    in a compiled function is written as in any graph, which is slower there and gives the same
    numbers; sparse gradients, whose rows have no static number then, XLA itself refuses.
    """
    try:
        ask = _control_flow.GraphOrParentsInXlaContext
    except AttributeError:
        return False
    return ask(tf.compat.v1.get_default_graph())


def is_watched() -> bool:
    """Says whether what is traced now gets checks around every operation.

    `tf.debugging.enable_check_numerics()` does that, and TensorFlow's debugger. XLA knows
    none of the operations that they add.

    Needs `op_callbacks.should_invoke_op_callbacks`. Without it a graph is made to see whether
    it gets more operations than it was given, which takes longer.
    """
    try:
        ask = _callbacks.should_invoke_op_callbacks
    except AttributeError:
        with tf.Graph().as_default() as graph:
            tf.raw_ops.Exp(x=tf.zeros([]))
            given = {"Const", "Exp"}
            return any(operation.type not in given for operation in graph.get_operations())
    return bool(ask())


def in_save_context() -> bool:
    """Says whether functions are traced for a SavedModel that is written now.

    Needs `save_context.in_save_context`. Without it the answer is no, and nothing is given to
    functions at their calls (`function_graph`), which a function that is saved could not take.
    """
    try:
        ask = _save_context.in_save_context
    except AttributeError:
        return False
    return ask()


def has_variable_creators() -> bool:
    """Says whether variables made now go through creators, as those of strategies do.

    Needs `Graph._variable_creator_stack`. Without it the answer is yes, and each variable is
    made under a name of its own, which takes longer.
    """
    return bool(getattr(tf.compat.v1.get_default_graph(), "_variable_creator_stack", True))


# Variables.


def is_shared(variable: tf.Variable) -> bool:
    """Says whether all replicas have this one variable, as in central storage.

    Needs `ps_values.AggregatingVariable`. Without it a variable is taken for one that belongs
    to a strategy, has one component, which `get` returns, and is no distributed value.
    """
    try:
        return isinstance(variable, _ps_values.AggregatingVariable)
    except AttributeError:
        cls = type(variable)
        parts = hasattr(cls, "get") and hasattr(cls, "distribute_strategy")
        return parts and not isinstance(variable, tf.distribute.DistributedValues)


def primary(variable: Any) -> tf.Variable:
    """Returns the component of a distributed variable on this device, or the first.

    Within `extended.update`, which takes one device after the other, it is that device's.

    Needs `DistributedVariable._get_on_device_or_primary`; `_get` may give a copy of the value.
    Without it the first component is taken, which has the same value. Needs
    `get_update_replica_id` within `extended.update`.
    """
    number = _update_number()
    if number is not None:
        return variable.values[number]
    try:
        get = variable._get_on_device_or_primary
    except AttributeError:
        return variable.values[0]
    return get()


def _update_number() -> int | None:
    """Returns which device `extended.update` is at, `None` elsewhere.

    Needs `distribute_lib.get_update_replica_id`; without it the answer is `None`, and a method
    of Keras' own that updates in that way takes the first component for all devices.
    """
    found = getattr(_distribute_lib, "get_update_replica_id", None)
    number = None if found is None else found()
    return number if isinstance(number, int) else None


def own(variable: Any) -> tf.Variable:
    """Returns the component of a distributed variable that this replica has.

    Needs `DistributedVariable._get`. Without it the component is found by the number of the
    replica.

    Raises:
      RuntimeError: there is no `_get`, and the replica does not know its number before it runs,
        as on a TPU.
    """
    try:
        get = variable._get
    except AttributeError:
        context = tf.distribute.get_replica_context()
        number = tf.get_static_value(context.replica_id_in_sync_group)
        if number is None:
            consequence = (
                "an optimizer cannot tell which part of a variable its replica has. Train with "
                "one replica, or with `tf.distribute.MirroredStrategy`."
            )
            raise error("DistributedVariable._get", consequence) from None
        return variable.values[int(number) % len(variable.values)]
    return get()


_CONTAINERS = ("_distributed_container", "_aggregating_container")
_known_containers: dict[int, weakref.ref] = {}


def container(variable: tf.Variable) -> tf.Variable:
    """Returns the distributed variable that a component belongs to, or itself.

    Needs `_distributed_container` and `_aggregating_container`, which TensorFlow sets on
    components or on their handles. Without them the components are known of those variables
    that `note_components` has seen.
    """
    if isinstance(variable, tf.distribute.DistributedValues):
        return variable
    found = _container(variable)
    if found is None and _known_containers:
        known = _known_containers.get(id(variable))
        found = known() if known is not None else None
    return variable if found is None else found


def _container(component: tf.Variable) -> Any:
    for holder in (component, getattr(component, "handle", None)):
        for name in _CONTAINERS:
            owner = getattr(holder, name, None)
            if owner is not None:
                return owner()
    return None


def note_components(variable: Any) -> None:
    """Notes the components of a distributed variable, if TensorFlow does not say it of them."""
    if not isinstance(variable, tf.distribute.DistributedValues):
        return
    for component in variable.values:
        if _container(component) is None:
            _known_containers[id(component)] = weakref.ref(variable)


def rename(variable: tf.Variable, name: str) -> bool:
    """Gives an eager variable another name; returns whether that has been done.

    Needs `ResourceVariable._handle_name`. Without it the caller makes the variable anew under
    that name, which takes longer.
    """
    if getattr(variable, "_handle_name", None) != variable.name:
        return False
    variable._handle_name = name
    return variable.name == name


# Calls of functions.


def shape_getter() -> Callable[[Any], tuple]:
    """Returns what gives an eager tensor's shape, which a step asks of each gradient.

    Needs `EagerTensor._shape_tuple`. Without it the shape becomes a tuple, which takes longer.
    """
    with tf.init_scope():
        tensor = tf.zeros([])
    if hasattr(tensor, "_shape_tuple"):
        return operator.methodcaller("_shape_tuple")
    return lambda tensor: tuple(tensor.shape)


def direct_call(traced: Any) -> tuple[Callable[[list, Any], Any] | None, Any]:
    """Returns what calls a traced function with a list of tensors, and its second argument.

    Needs `ConcreteFunction._call_flat`, which takes the tensors (those of a dict in the order
    of its names, of a variable the handle) and what the function has captured. Without it the
    answer is `None`, twice.
    """
    try:
        call = traced._call_flat
        inspect.signature(call).bind([], [])
        return call, traced.captured_inputs
    except (AttributeError, TypeError):
        return None, None


def flat_call(traced: Any) -> tuple[Callable[[list, Any], Any], Any]:
    """Returns what calls a traced function with a list of tensors, and its second argument.

    Needs `ConcreteFunction._call_flat`, which takes the tensors and what the function has
    captured. Without it the function is called as anyone calls it, which takes longer with
    hundreds of tensors.

    Args:
      traced: a concrete function whose arguments are by position.
    """
    call, captured = direct_call(traced)
    if call is not None:
        return call, captured
    structure = traced.structured_input_signature[0]
    leaves = tf.nest.flatten(structure)

    def call_by_structure(tensors: list, _: Any) -> Any:
        given = iter(tensors)
        flat = [leaf if leaf is None else next(given) for leaf in leaves]
        return traced(*tf.nest.pack_sequence_as(structure, flat))

    return call_by_structure, None


# What a function is given at each call.


def function_graph() -> Any:
    """Returns the graph of the function that is traced now, around loops and conditions.

    Needs `FuncGraph.capture_call_time_value`, `FuncGraph.function_captures` with its fields,
    and what `in_save_context` needs.

    Returns:
      `None` in a graph of TensorFlow 1, and where something of that is missing; then
      `lacks_call_time_values` tells which it is.
    """
    graph = tf.compat.v1.get_default_graph()
    while getattr(graph, "is_control_flow_graph", False):
        graph = graph.outer_graph
    captures = getattr(graph, "function_captures", None)
    needed = ("by_ref_internal", "by_ref_external", "by_ref_tracetype", "add_or_replace")
    complete = all(hasattr(captures, name) for name in needed)
    complete = complete and hasattr(graph, "is_control_flow_graph")
    complete = complete and hasattr(_save_context, "in_save_context")
    return graph if complete and hasattr(graph, "capture_call_time_value") else None


def lacks_call_time_values() -> bool:
    """Says whether a function is traced that TensorFlow gives nothing at its calls any more."""
    in_function = (
        tf.compat.v1.executing_eagerly_outside_functions() and not tf.executing_eagerly()
    )
    return in_function and function_graph() is None


def call_time_error(consequence: str) -> RuntimeError:
    """Returns the error about a function that is given nothing at its calls."""
    name = "FuncGraph.capture_call_time_value"
    if not hasattr(_save_context, "in_save_context"):
        name = "save_context.in_save_context"
    return error(name, consequence)


def captured_in(graph: Any, key: tuple, value: Callable[[], tf.Tensor], default: Any) -> Any:
    """Returns a tensor of a function's graph that is `value()` at every call of it.

    A function that calls that one takes the value in likewise. TensorFlow does this for calls
    that stand in a function itself; calls in its loops and conditions are cared for here.

    Args:
      graph: what `function_graph` returned.
      key: names the value in the graph.
      value: returns a float64 array with one dimension.
      default: such an array for where nothing can be called, in a SavedModel; or `None`.
    """
    captures = graph.function_captures
    if key in captures.by_ref_internal:
        return captures.by_ref_internal[key]
    with graph.as_default():
        inside = graph.capture_call_time_value(
            value, tf.TensorSpec([None], tf.float64), key=key, default_value=default
        )
    plain = captures.by_ref_external[key]

    def at_call() -> Any:
        outer = None if tf.executing_eagerly() else function_graph()
        return plain() if outer is None else [captured_in(outer, key, value, default)]

    at_call.output_spec = plain.output_spec  # type: ignore[attr-defined]
    captures.add_or_replace(
        key, at_call, inside, tracetype=captures.by_ref_tracetype[key], is_by_ref=True
    )
    return inside


# Graphs.


def add_control_inputs(operation: tf.Operation, inputs: Sequence[tf.Operation]) -> None:
    """Lets an operation of a graph wait for operations that were made after it.

    Needs `Operation._add_control_inputs`.

    Raises:
      RuntimeError: there is none.
    """
    try:
        add = operation._add_control_inputs
    except AttributeError:
        consequence = (
            "`export_training` cannot let an update wait for what may raise after it. Save the "
            "model with `save_model`."
        )
        raise error("Operation._add_control_inputs", consequence) from None
    add(list(inputs))
