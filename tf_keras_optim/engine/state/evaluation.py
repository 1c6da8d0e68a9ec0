"""Weights for evaluation: in the place of those that are trained, and back.

Where there are averages, these are the weights for evaluation; else slow weights, where there
are some; else an algorithm may say what they are (`Algorithm.evaluated`). While they are in
the variables, the trained ones are kept exactly: beside the variable, or in its master copy.
Weights that were set by someone meanwhile are not overwritten: training goes on from them. A
number says which weights the variables hold; every file says it too.
"""

import functools

import tensorflow as tf

from tf_keras_optim.engine import nature
from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.numerics import loops, precision
from tf_keras_optim.engine.state import lookahead
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution, placement

TRAINING = "training_value"  # beside the slots, where the variables are for evaluation
EVALUATING = "evaluating"  # in what is saved: whether they are
_ROUNDINGS = 64  # by which a value that is computed twice may differ, in units of its dtype


def has_rules(context: Context) -> bool:
    """Says whether an algorithm computes weights for evaluation, of some variable at least."""
    algorithms = (context.of(entry).algorithm for entry in context.store.tracked)
    return any(map(nature.has_evaluated, (context.algorithm, *algorithms)))


def _keeps_other(context: Context) -> bool:
    """Says whether averages or slow weights are kept."""
    return bool(context.options.use_ema or context.options.lookahead_steps)


def has_weights(context: Context) -> bool:
    """Says whether an optimizer has weights for evaluation, of some variable at least."""
    if _keeps_other(context) or nature.has_evaluated(context.algorithm):
        return True
    return any(_source(context, entry) is not None for entry in context.store.tracked)


def make(context: Context) -> None:
    """Makes what steps must know of when variables are taken in.

    That is the number that says which weights there are, where an algorithm computes some; and
    where averages have been put in place before, copies beside new variables: from averages no
    step could compute the trained weights.
    """
    store = context.store
    rules = any(nature.has_evaluated(context.of(entry).algorithm) for entry in store.tracked)
    if rules and store.evaluating is None:
        _make_number(context)
    elif store.evaluating is not None and _keeps_other(context):
        _make_copies(context)


def make_all(context: Context) -> None:
    """Makes what is needed to put weights for evaluation in place."""
    store = context.store
    if store.evaluating is None:
        _make_number(context)
        context.traces.forget()  # steps that were traced before do not know it
    _make_copies(context)


def _make_copies(context: Context) -> None:
    for entry in context.store.tracked:
        if _source(context, entry) and entry.master is None and entry.training is None:
            entry.training = context.variables.make(
                f"{entry.path.replace('/', '_')}_{TRAINING}",
                functools.partial(tf.zeros, entry.variable.shape, entry.variable.dtype),
                beside=entry.variable,
                kind=TRAINING,
            )


def _make_number(context: Context) -> None:
    context.store.evaluating = context.variables.make(
        EVALUATING, lambda: tf.zeros([], tf.int64), aggregated=True
    )


def is_on(context: Context) -> bool:
    """Says whether the variables hold weights for evaluation, outside functions."""
    number = context.store.evaluating
    if number is None:
        return False
    with tf.init_scope():
        return tf.executing_eagerly() and bool(distribution.local(number).numpy())


def set_mode(context: Context, on: bool) -> None:
    """Says which weights the variables hold, as a saved state has it."""
    if on and has_weights(context):
        make_all(context)
    number, context.store.shown_at = context.store.evaluating, None
    if number is not None:
        with tf.init_scope():
            distribution.set_everywhere(number, tf.constant(int(on), tf.int64))


def kept(context: Context) -> dict[str, tf.Variable]:
    """Returns the training weights that are kept beside the variables, by path."""
    entries = context.store.tracked
    return {entry.path: entry.training for entry in entries if entry.training is not None}


def switch(context: Context, on: bool) -> None:
    """Puts weights for evaluation, or the trained ones, into the variables; also in a graph.

    Args:
      context: what the optimizer's parts share.
      on: whether it is to be those for evaluation.
    """
    if on:
        make_all(context)
    if context.store.evaluating is None:
        return
    _note(context, on)
    action, strategy = functools.partial(_switch, context, on), context.variables.strategy
    sharding = context.sharding
    shared = distribution.is_shared(context.store.evaluating) or sharding.is_on
    is_outside = distribution.is_outside(strategy)
    if is_outside and strategy.num_replicas_in_sync > 1 and not shared:
        strategy.run(action)
    elif is_outside or not shared or distribution.is_first_replica():
        with sharding.owned():
            action()


def _note(context: Context, on: bool) -> None:
    """Notes when the weights were exchanged, and looks for steps that did not know it.

    Raises:
      RuntimeError: such steps were taken.
    """
    store = context.store
    if not tf.executing_eagerly() or is_on(context) == on:
        return
    before, store.shown_at = store.shown_at, context.counter.calls() if on else None
    taken = 0 if before is None else context.counter.calls() - before
    if not on and taken:
        raise RuntimeError(
            f"{context.title}: {taken} steps were taken while the weights for evaluation were "
            "in place, by a function that had been traced before these were used for the first "
            "time, and so trained them instead. Make the function anew after the first "
            "`use_evaluation_weights()`, e.g. by `model.compile`, or call "
            "`use_training_weights()` before each step."
        )


def resume(context: Context) -> None:
    """Puts the trained weights back where a step finds others; part of the step."""
    if context.store.evaluating is not None:
        _switch(context, False)


def resume_before(context: Context) -> None:
    """Puts the trained weights back before a function that takes a step runs at all.

    It computes its gradients from them then. Not where there are replicas: these exchange
    weights in the step.
    """
    is_export = placement.is_portable()  # which keeps the weights as they are
    if tf.executing_eagerly() or is_export or distribution.number_of_replicas() > 1:
        return
    with tf.init_scope():
        if is_on(context):
            switch(context, False)


def _switch(context: Context, on: bool) -> None:
    number = distribution.local(context.store.evaluating)
    one = _show if on else _put_back

    def act() -> None:
        for entry in context.store.tracked:
            if _source(context, entry) is not None:
                with placement.beside(distribution.local(entry.variable)):
                    one(context, entry)
        context.sharding.spread(context.store.tracked)
        number.assign(tf.constant(int(on), tf.int64))

    loops.choose(tf.not_equal(number.read_value(), int(on)), act)


def _source(context: Context, entry: VariableState) -> str | None:
    """Returns what a variable's weights for evaluation come from."""
    if entry.overwrite:
        return None
    if entry.average is not None:
        return "average"
    if lookahead.SLOT in entry.declared:
        return "slow"
    return "rule" if nature.has_evaluated(context.of(entry).algorithm) else None


def _show(context: Context, entry: VariableState) -> None:
    variable = distribution.local(entry.variable)
    trained = variable.read_value()
    if entry.training is not None:
        distribution.local(entry.training).assign(trained)
    variable.assign(_shown(context, entry, trained))


def _put_back(context: Context, entry: VariableState) -> None:
    """Puts a trained weight back, unless the variable has been set to something else."""
    variable = distribution.local(entry.variable)
    now, kept_value = variable.read_value(), _kept(entry)
    if kept_value is None:  # no copy was kept yet when this step was traced
        wide, slots = tf.cast(now, entry.dtype), _slots(entry)
        trained = context.of(entry).algorithm.trained(wide, slots)
        trained = tf.where(_has_begun(context, entry), trained, wide)
        variable.assign(tf.cast(trained, variable.dtype))
        return
    expected = _shown(context, entry, kept_value)
    wide, other, before = (tf.cast(v, entry.dtype) for v in (now, expected, kept_value))
    unit = max(_unit(variable.dtype), _unit(entry.dtype))
    bound = _ROUNDINGS * unit * (tf.abs(other) + tf.abs(before))
    untouched = tf.reduce_all(tf.abs(wide - other) <= bound)
    variable.assign(tf.where(untouched, kept_value, now))
    for started in entry.started.values():  # such slots start again from what was set
        number = distribution.local(started)
        number.assign(tf.where(untouched, number.read_value(), tf.zeros([], tf.int64)))


def _kept(entry: VariableState) -> tf.Tensor | None:
    """Returns the trained weight that is kept while another one is in the variable."""
    if entry.training is not None:
        return distribution.local(entry.training).read_value()
    if entry.master is not None:
        master = distribution.local(entry.master).read_value()
        return tf.cast(master, entry.variable.dtype)
    return None


def _shown(context: Context, entry: VariableState, trained: tf.Tensor) -> tf.Tensor:
    """Returns the weight for evaluation that belongs to a trained one."""
    master = None if entry.master is None else distribution.local(entry.master).read_value()
    value = precision.widest(trained, master, entry.dtype)
    source = _source(context, entry)
    if source == "average":
        other = distribution.local(entry.average).read_value()
    elif source == "slow":
        other = distribution.local(entry.slots[lookahead.SLOW]).read_value()
    else:
        other = context.of(entry).algorithm.evaluated(value, _slots(entry))
    begun = _has_begun(context, entry)
    return tf.where(begun, tf.cast(other, trained.dtype), trained)


def _has_begun(context: Context, entry: VariableState) -> tf.Tensor:
    """Says whether what the weights for evaluation come from has had an update."""
    if entry.average is not None:
        updates = context.counter.updates()
        begins = entry.averages_from // context.store.counted_by
        return (updates > 0) & tf.not_equal(updates, begins)
    numbers = [distribution.local(v).read_value() for v in entry.started.values()]
    return tf.reduce_all([number > 0 for number in numbers]) if numbers else tf.constant(True)


def _slots(entry: VariableState) -> dict[str, tf.Tensor]:
    """Returns the slots that are kept as they are, in the dtype of the arithmetic."""
    slots = {name: distribution.local(slot) for name, slot in entry.slots.items()}
    return {
        name: tf.cast(slot.read_value(), entry.dtype)
        for name, slot in slots.items()
        if not slot.dtype.is_integer
    }


def _unit(dtype: tf.DType) -> float:
    """Returns the distance of 1 to the next number of a dtype."""
    return {tf.bfloat16: 2.0**-7, tf.float16: 2.0**-10, tf.float64: 2.0**-52}.get(
        dtype, 2.0**-23
    )
