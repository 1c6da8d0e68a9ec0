"""What a saved state has for variables that are not here yet: those of a layer thawed since.

A file may be loaded into an optimizer that was built before a layer was unfrozen, while the
saved one had trained it. What the file has for that layer is taken over if its variables come
before the next update, as they do where an interrupted `fit` is resumed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import assigning, evaluation, late, named_state, partial
from tf_keras_optim.engine.state.store import VariableState


@dataclasses.dataclass(frozen=True)
class Rest:
    """A part of a saved state.

    Attributes:
      state: the state dict, with the arrays of those variables alone.
      options: further arguments for `plan`.
      known: the ids of the variables that were here when it was loaded.
      calls: the number of steps then.
    """

    state: Mapping[str, Any]
    options: Mapping[str, Any]
    known: frozenset[int]
    calls: int


def of(
    context: Context,
    state: Mapping[str, Any],
    options: Mapping[str, Any],
    plan: named_state.Plan,
) -> Rest | None:
    """Returns what a state has for variables that are not here, `None` for nothing.

    Args:
      context: what the optimizer's parts share.
      state: the state dict, which has been loaded.
      options: further arguments for `plan`.
      plan: how it was loaded.
    """
    gone = frozenset(plan.apart.gone)
    if not gone:
        return None
    variables = {p: v if p in gone else {} for p, v in state["variables"].items()}
    known = frozenset(id(entry) for entry in context.store.tracked)
    reduced = {**state, "variables": variables, "extra": {}}
    return Rest(reduced, dict(options), known, context.counter.calls())


def take(context: Context, rest: Rest) -> None:
    """Takes over what variables that came since find there.

    Args:
      context: what the optimizer's parts share.
      rest: what is there; too old where a step has been made since.
    """
    new = [entry for entry in context.store.tracked if id(entry) not in rest.known]
    if not new or context.counter.calls() != rest.calls:
        return
    plan = named_state.plan(context, rest.state, **rest.options)
    saved = {id(variable): value for variable, value in plan.assignments}
    starting = {id(entry) for entry in plan.starting}
    found = {
        id(entry): kept
        for entry in new
        if (kept := _kept(context, entry)).keys() <= saved.keys() and id(entry) not in starting
    }
    assignments = [(v, saved[key]) for kept in found.values() for key, v in kept.items()]
    if not assignments:
        return
    ages = late.ages(context)
    assigning.assign(context, assignments)
    late.note_loaded(context, ages, {key: v for key, v in plan.begun.items() if key in found})
    partial.tell_taken(context.title, [entry.path for entry in new if found.get(id(entry))])


def _kept(context: Context, entry: VariableState) -> dict[int, tf.Variable]:
    """Returns what is kept for a variable, save for where its slots began."""
    found = [v for name, v in entry.kept().items() if name not in entry.late()]
    training = evaluation.kept(context).get(entry.path)
    if training is not None and evaluation.is_on(context):
        found.append(training)
    return {id(variable): variable for variable in found}
