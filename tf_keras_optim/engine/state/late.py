"""Variables whose slots began after the first update: those of unfrozen layers, say.

What corrects for slots that start at zero has to count from where they started. The number of
updates before is kept for each variable, once there is one that came late, and so is its own
copy of each scalar that is carried from step to step. A variable whose number is 0 goes by
the optimizer's own count and scalars.
"""

import dataclasses
import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine import nature
from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import inventory
from tf_keras_optim.engine.state.store import BEGUN, Store, VariableState
from tf_keras_optim.engine.tensorflow import distribution


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the scalars of a step are for.

    Attributes:
      dtype: the compute dtype.
      factor: the factor on the learning rate.
      first: one of the variables that began together, where they came late.
      group: the group of variables.
    """

    dtype: tf.DType
    factor: float = 1.0
    first: VariableState | None = None
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Where a variable's slots began.

    Attributes:
      update: the number of updates before.
      carried: what is carried from step to step since, by name.
    """

    update: int = 0
    carried: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def is_key(slot: str) -> bool:
    """Says whether a name beside the slots is one of those that are kept here."""
    return slot.partition("/")[0] == BEGUN


def to_slots(beginning: Beginning) -> dict[str, np.ndarray]:
    """Returns a beginning as it stands beside the slots in a saved state."""
    carried = {f"{BEGUN}/{name}": np.asarray(v) for name, v in beginning.carried.items()}
    return {BEGUN: np.asarray(beginning.update, np.int64)} | carried


def from_slots(slots: Mapping[str, Any], title: str, path: str, updates: int) -> Beginning:
    """Returns the beginning that stands beside saved slots.

    Args:
      slots: what is saved, by name; empty where nothing is.
      title: the context, for messages.
      path: the variable.
      updates: the number of updates when that was saved.

    Raises:
      ValueError: it is no number of updates.
    """
    values = {name: np.asarray(value) for name, value in slots.items()}
    update = values.pop(BEGUN, np.int64(0))
    scalars = all(v.shape == () and np.isfinite(v.astype("d")) for v in values.values())
    if update.shape != () or update.dtype.kind not in "iu" or update > updates or not scalars:
        raise ValueError(
            f"{title}: the saved state has {slots!r} beside the slots of {path!r}: "
            f"`{BEGUN}` must be an integer of at most the number of updates, {updates}, and "
            "the others finite numbers. It is damaged, or was changed by hand; nothing was "
            "changed. Load an earlier one."
        )
    return Beginning(int(update), {n.partition("/")[2]: v for n, v in values.items()})


def counted(context: Context) -> list[VariableState]:
    """Returns the entries whose update depends on the number of updates."""
    counts: dict[str, bool] = {}
    for entry in context.store.tracked:
        if entry.group not in counts:
            counts[entry.group] = nature.counts_updates(context.of(entry).algorithm)
    return [e for e in context.store.tracked if e.slots and counts[e.group]]


def of(context: Context) -> dict[int, Beginning]:
    """Returns, by the id of its entry, where each late variable began, as it is now."""
    found = {}
    for entry in context.store.tracked:
        if entry.begun is not None and _number(entry.begun):
            carried = {name: _number(v) for name, v in entry.carried.items()}
            found[id(entry)] = Beginning(int(_number(entry.begun)), carried)
    return found


def loaded(
    context: Context,
    assigned: Container[int],
    begun: Mapping[str, Mapping[str, Any]],
    updates: int,
) -> dict[int, Beginning]:
    """Returns, by the ids of the entries whose slots a saved state has, where those began.

    Args:
      context: what the optimizer's parts share.
      assigned: the ids of the variables that get a saved value.
      begun: by path, what stands beside the saved slots.
      updates: the number of updates when the state was saved.

    Raises:
      ValueError: what stands there is no number of updates.
    """
    title = context.title
    return {
        id(entry): from_slots(begun.get(entry.path, {}), title, entry.path, updates)
        for entry in counted(context)
        if any(id(slot) in assigned for slot in entry.slots.values())
    }


def numbered(context: Context, count: int) -> list[tf.Variable]:
    """Returns the state variables that so many arrays are for.

    What is kept here may be among them or not; it is made where there are that many more.
    """
    kept = {id(variable) for variable in context.store.late().values()}
    listed = inventory.listed(context)
    others = [variable for variable in listed if id(variable) not in kept]
    if count == len(others):
        return others
    more = sum(1 + len(context.store.carried(e.group)) for e in counted(context))
    if not kept and count == len(others) + more:
        complete(context)
    return inventory.listed(context)


def ages(
    context: Context, set_before: Iterable[tuple[tf.Variable, Any]] = ()
) -> dict[int, Beginning]:
    """Returns, by the ids of entries, how many updates the slots have seen.

    Args:
      context: what the optimizer's parts share.
      set_before: state variables that have been set from a saved state already, with the
        values that they had.
    """
    store, before = context.store, {id(v): value for v, value in set_before}
    calls = before.get(id(store.iterations))
    updates = context.counter.updates_by_now(None if calls is None else int(calls))

    def value_of(variable: tf.Variable) -> Any:
        known = before.get(id(variable))
        return _number(variable) if known is None else known

    own = {
        group: {name: value_of(variable) for name, variable in carried.items()}
        for group, carried in store.carried_by_group().items()
    }
    known, found = of(context), {}
    for entry in store.tracked:
        begun = known.get(id(entry), Beginning(0, own.get(entry.group, {})))
        found[id(entry)] = Beginning(updates - begun.update, begun.carried)
        if entry.is_fresh:
            found[id(entry)] = Beginning()
    return found


def counts(context: Context) -> list[tuple[tf.Variable, np.ndarray]]:
    """Returns what `ages` goes by beside slots, as it is now: counter and carried scalars."""
    with tf.init_scope():
        if not tf.executing_eagerly():
            return []
    carried = context.store.carried_by_group().values()
    variables = [context.store.iterations, *(v for own in carried for v in own.values())]
    return [(variable, _number(variable)) for variable in variables]


def note_loaded(
    context: Context,
    before: Mapping[int, Beginning],
    loaded: Mapping[int, Beginning],
    updates: int | None = None,
) -> None:
    """Notes where slots began, after a saved state has been loaded.

    Slots that were not loaded have seen as many updates as before.

    Args:
      context: what the optimizer's parts share.
      before: what `ages` returned before the state was loaded.
      loaded: by the ids of the entries whose slots were loaded, where those began.
      updates: the number of updates, where that is still to be set.
    """
    updates = context.counter.updates_by_now() if updates is None else updates
    found = dict(loaded)
    for entry in counted(context):
        age = before.get(id(entry))
        if id(entry) in loaded:
            entry.is_fresh = False
        elif age is not None:
            found[id(entry)] = Beginning(updates - age.update, age.carried)
            entry.is_fresh = False
    put(context, found)


def settle(context: Context) -> None:
    """Notes where slots began that were made just now and not loaded."""
    updates = context.counter.updates_by_now()
    fresh = [entry for entry in context.store.tracked if entry.is_fresh]
    for entry in fresh:
        entry.is_fresh = False
    if fresh and updates:
        put(context, {id(entry): Beginning(updates) for entry in fresh}, traced=False)
    elif context.store.late():
        complete(context)


def put(context: Context, beginnings: Mapping[int, Beginning], traced: bool = True) -> None:
    """Sets where slots began, by the ids of entries; others stay as they are.

    Args:
      context: what the optimizer's parts share.
      beginnings: where they began.
      traced: whether steps of these variables may have been traced.
    """
    entries, known = counted(context), of(context)
    wanted = {id(e): beginnings.get(id(e), known.get(id(e), Beginning())) for e in entries}
    if any(beginning.update for beginning in wanted.values()):
        complete(context)
        for entry in entries:
            _set(context, entry, wanted[id(entry)])
    else:
        clear(context)
    if traced:
        _renew_traces(context)


def clear(context: Context) -> None:
    """Forgets all beginnings: every variable goes by the optimizer's count."""
    for entry in context.store.tracked:
        for name, variable in entry.late().items():
            context.variables.retire(variable, f"{entry.path}/{name}")
        entry.begun, entry.carried = None, {}


def complete(context: Context) -> None:
    """Makes what is kept here for each variable that lacks it, beginning with 0."""
    for entry in counted(context):
        step_slots = context.store.carried(entry.group)
        if entry.begun is None:
            entry.begun = _made(context, entry, BEGUN, lambda: tf.zeros([], tf.int64))
        for name in step_slots:
            if name not in entry.carried:
                start = context.store.starts[id(step_slots[name])]
                entry.carried[name] = _made(context, entry, f"{BEGUN}/{name}", start)


def together(context: Context) -> dict[int, VariableState]:
    """Returns, by the id of its entry, for each late variable one that began with it.

    For a step that is traced now: variables that began together share their scalars.
    """
    first: dict[Any, VariableState] = {}
    found: dict[int, VariableState] = {}
    with tf.init_scope():
        for entry in context.store.tracked:
            if entry.begun is not None:
                eager = tf.executing_eagerly()
                key = int(_number(entry.begun)) if eager else id(entry)
                if key:
                    found[id(entry)] = first.setdefault((entry.group, key), entry)
    return found


def carry(
    store: Store,
    begun: Mapping[int, VariableState],
    scalars: Mapping[Kind, Mapping[str, tf.Tensor]],
    compute: Callable[[Kind], Mapping[str, tf.Tensor]],
    concluded: Mapping[str, Mapping[str, tf.Tensor]],
) -> None:
    """Keeps what the algorithm carries to the next step; once, not per variable.

    For variables that came late, too, with a gradient in this step or without.

    Args:
      store: the optimizer's variables.
      begun: what `together` returned.
      scalars: those of this step.
      compute: returns scalars that no variable of this step has needed.
      concluded: by group, what the algorithm concluded from all variables; the same for each
        of them.
    """
    if not scalars:
        return
    kept: dict[tuple[str, VariableState | None], list[dict[str, tf.Variable]]] = {
        (group, None): [own] for group, own in store.carried_by_group().items() if own
    }
    for entry in store.tracked:
        if id(entry) in begun and entry.carried:
            kept.setdefault((entry.group, begun[id(entry)]), []).append(entry.carried)
    for (group, first), copies in kept.items():
        kinds = [kind for kind in scalars if kind.first is first and kind.group == group]
        widest = max(kinds or scalars, key=lambda kind: kind.dtype.size)
        other = dataclasses.replace(widest, factor=1.0, first=first, group=group)
        values = scalars[widest] if kinds else compute(other)
        values = {**values, **concluded.get(group, {})}
        for carried in copies:
            for name, variable in carried.items():
                value = tf.cast(values[name], variable.dtype)
                distribution.local(variable).assign(value)


def note_trace(context: Context) -> dict[int, VariableState]:
    """Returns what `together` does for a step that is traced now, and remembers it."""
    found = together(context)
    context.store.traced_groups = _partition(context.store, found)
    return found


def _partition(store: Store, found: Mapping[int, VariableState]) -> dict[int, int]:
    return {id(e): id(found[id(e)]) if id(e) in found else 0 for e in store.tracked}


def _renew_traces(context: Context) -> None:
    """Drops traced steps in which variables share scalars that have other beginnings now."""
    store = context.store
    traced, now = store.traced_groups, _partition(store, together(context))
    if traced is None or all(now.get(key) == rest for key, rest in traced.items()):
        return
    context.traces.forget()
    if context.traces.in_graph:
        warnings.warn(
            f"{context.title}: after a step had been traced into a function, a state was "
            "loaded in which the slots of other variables began later than the rest. The "
            "function goes on with the corrections of its trace until it is made anew, e.g. "
            "by `model.compile`. Eager calls use the new ones.",
            stacklevel=5,
        )


def _number(variable: tf.Variable) -> np.ndarray:
    with tf.init_scope():
        return np.asarray(distribution.local(variable).numpy())


def _made(context: Context, entry: VariableState, name: str, start: Any) -> tf.Variable:
    flat = f"{entry.path}_{name}".replace("/", "_")
    variable = context.variables.make(flat, start, aggregated=True, kind=name.replace("/", "_"))
    context.variables.publish(f"{entry.path}/{name}", variable, flat, is_slot=True)
    return variable


def _set(context: Context, entry: VariableState, beginning: Beginning) -> None:
    starts = context.store.starts
    with tf.init_scope():
        distribution.set_everywhere(entry.begun, np.int64(beginning.update))
        for name, variable in entry.carried.items():
            value = beginning.carried.get(name)
            value = starts[id(variable)]() if value is None else np.asarray(value)
            distribution.set_everywhere(variable, tf.cast(value, variable.dtype))
