"""An optimizer's state by name: what it looks like, and whether another one fits it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import (
    evaluation,
    late,
    matching,
    meanings,
    partial,
    recoding,
    starts,
    state_form,
)
from tf_keras_optim.engine.state.fingerprints import fingerprint
from tf_keras_optim.engine.state.load_report import (
    RATES,
    LoadReport,
    compare_rates,
    described,
    dtype_of,
)
from tf_keras_optim.engine.state.paths import path_of
from tf_keras_optim.engine.state.saved_arrays import kept
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step import accumulation
from tf_keras_optim.engine.update import products

Key = tuple[str, ...]  # ("scalars", name), ("variables", path, slot) or ("extra", name)


def collect(context: Context, evaluating: bool | None = None) -> dict[Key, tf.Variable]:
    """Returns an optimizer's state variables by what they are.

    A variable of a subclass' own that was asked for beside a model variable is listed
    with the slots of that one.

    Args:
      context: what the optimizer's parts share.
      evaluating: whether the trained weights that are kept while others are in place belong
        to it; by default, whether others are in place.
    """
    context.variables.find_own()
    store = context.store
    found: dict[Key, tf.Variable] = {("scalars", "iterations"): store.iterations}
    rates = zip(RATES, (store.rate, store.multiplier))
    found |= {("scalars", name): rate for name, rate in rates if rate is not None}
    for group, carried in store.carried_by_group().items():
        prefix = f"{group}/" if group else ""
        found |= {("scalars", f"{prefix}{name}"): v for name, v in carried.items()}
    found |= {("scalars", name): v for name, v in store.guard.items()}
    names = {id(variable): name for name, variable in store.named.items()}
    for entry in store.tracked:
        late = entry.late()
        for name, variable in entry.kept().items():
            # A name that a subclass took for a variable of its own has a number here.
            slot = name if name in late else names[id(variable)].removeprefix(f"{entry.path}/")
            found["variables", entry.path, slot] = variable
    if evaluation.is_on(context) if evaluating is None else evaluating:
        trained = evaluation.kept(context)
        found |= {("variables", path, evaluation.TRAINING): v for path, v in trained.items()}
    for variable in store.extra:
        owner, slot = store.owners.get(id(variable), (None, ""))
        beside = None if owner is None else store.find(owner)
        if beside is None:
            found["extra", names[id(variable)]] = variable
        else:
            found["variables", beside.path, slot] = variable
    return found


def header(context: Context) -> dict[str, Any]:
    """Returns what a state dict says of itself."""
    return {
        "format": state_form.FORMAT,
        "version": state_form.VERSION,
        "class_name": context.class_name,
        "meanings": meanings.of(context),
        accumulation.STEPS: context.store.counted_by,
        **({evaluation.EVALUATING: True} if evaluation.is_on(context) else {}),
    }


def to_dict(context: Context) -> dict[str, Any]:
    """Returns the state as `state_dict` documents it."""
    state: dict[str, Any] = {
        **header(context),
        "scalars": {},
        "variables": {entry.path: {} for entry in context.store.tracked},
        "extra": {},
        "weights": {
            entry.path: fingerprint(entry.variable.numpy()) for entry in context.store.tracked
        },
    }
    for key, variable in collect(context).items():
        section = state
        for part in key[:-1]:
            section = section[part]
        section[key[-1]] = np.asarray(variable.numpy())
    return state


def flat(state: Mapping[str, Any]) -> dict[Key, np.ndarray]:
    """Returns the arrays of a state dict by key."""
    arrays: dict[Key, np.ndarray] = {
        (section, name): kept(value)
        for section in ("scalars", "extra")
        for name, value in state[section].items()
    }
    for path, slots in state["variables"].items():
        for slot, value in slots.items():
            arrays["variables", path, slot] = kept(value)
    return arrays


@dataclasses.dataclass
class Plan:
    """What would be assigned, and how the saved state differs."""

    assignments: list[tuple[tf.Variable, np.ndarray]]
    report: LoadReport
    apart: partial.Apart
    begun: dict[int, late.Beginning]  # by the ids of the entries whose slots are loaded
    starting: list[VariableState]  # whose averages are not in the saved state
    is_recast: bool  # whether only variables of another dtype have state of another dtype
    left_out: str = ""  # what had been gathered for an update that is not made, if anything

    @property
    def differs_in_variables_only(self) -> bool:
        """Whether one side has model variables that the other has not, and all else fits."""
        fits = self.apart.is_all and (self.apart.is_sure or self.apart.is_guess)
        return fits and self.is_recast and not self.report.mismatched


def plan(
    context: Context,
    state: Mapping[str, Any],
    *,
    keep_hyperparameters: bool = False,
    names: Mapping[str, str] | Callable[[str], str] | None = None,
    compare_values: bool = True,
) -> Plan:
    """Compares a saved state with an optimizer's. Changes nothing.

    Args:
      context: what the optimizer's parts share.
      state: a state dict.
      keep_hyperparameters: leave the learning rate, or the factor on a schedule, alone.
      names: saved paths to paths here, a mapping or a function.
      compare_values: whether the values of the weights may be looked at.
    """
    here = collect(context, bool(state.get(evaluation.EVALUATING)))
    report = LoadReport()
    here = {key: v for key, v in here.items() if not (len(key) == 3 and late.is_key(key[2]))}
    # Keras' files name only variables that something is kept for; Keras 2's have no rate.
    listed, optional = state.get("listed", True), frozenset(state.get("unsaved", ()))
    optional |= products.may_be_missing(context)
    of_class = _compare_classes(context, state, here, report)
    kept_for = {key[1] for key in here if key[0] == "variables"}
    entries = [e for e in context.store.tracked if listed or e.path in kept_for]
    fresh = was_not_built(state)
    found = _matched_paths(context, entries, state, names, compare_values)
    report.mismatched += found.doubts
    refused = {**of_class, **meanings.refused_here(context, state, found.paths)}
    saved, surplus, begun = _by_path_here(state, found)
    saved, left_out = accumulation.converted(context, state, here, saved)
    report.mismatched += [left_out] * bool(left_out)
    saved, changed = recoding.recoded(context.store.tracked, saved)
    report.cast += [f"{was}, here {described(k, here[k])}" for k, was in changed.items()]
    calls = saved.get(("scalars", "iterations"))
    if fresh:
        saved = _starts(context, here) | saved
    if keep_hyperparameters:
        rates = [("scalars", name) for name in RATES]
        report.kept = [described(key, here[key]) for key in rates if key in here]
        here = {key: v for key, v in here.items() if key not in rates}
        saved = {key: v for key, v in saved.items() if key not in rates}
    elif {k[1] for k in here if k[1] in RATES} != {k[1] for k in saved if k[1] in RATES}:
        compare_rates(here, saved, report, optional)
    assignments, missing = _assignments(context, here, saved, report, optional, refused)
    surplus += [(key, value) for key, value in saved.items() if key not in here]
    report.unexpected += [described(key, value) for key, value in surplus]
    if listed and not fresh:
        _compare_variables(context, found.paths, report)
    recast = partial.recast(entries, state.get("weights") or {}, found)
    apart = partial.apart(found, missing, [key for key, _ in surplus], recast)
    others = {k for k in here.keys() & saved.keys() if saved[k].dtype != dtype_of(here[k])}
    is_recast = all(key[0] == "scalars" or key[1] in recast for key in {*others, *changed})
    updates = context.counter.updates_by_now(None if calls is None else int(np.asarray(calls)))
    assigned = {id(variable) for variable, _ in assignments}
    since = late.loaded(context, assigned, begun, updates)
    averages = {id(here[key]) for key in missing}
    starting = [e for e in context.store.tracked if id(e.average) in averages]
    return Plan(assignments, report, apart, since, starting, is_recast, left_out)


def _assignments(
    context: Context,
    here: Mapping[Key, tf.Variable],
    saved: Mapping[Key, np.ndarray],
    report: LoadReport,
    optional: frozenset[str],
    refused: Mapping[str, str | None],
) -> tuple[list[tuple[tf.Variable, np.ndarray]], list[Key]]:
    """Returns what would be assigned, and the keys of what was not saved; reports both."""
    assignments: list[tuple[tf.Variable, np.ndarray]] = []
    missing = []
    for key, variable in here.items():
        reason = meanings.meaning(refused, key)
        if key in saved and reason is not None:
            missing.append(key)
            report.mismatched.append(f"{described(key, variable)}: {reason}")
        elif key in saved:
            _compare(key, variable, saved[key], report, assignments)
        elif key[1] not in optional:
            missing.append(key)
            report.missing.append(described(key, variable))
            entry = next((e for e in context.store.tracked if e.average is variable), None)
            if entry is not None:
                now = entry.variable.numpy().astype(dtype_of(variable))
                assignments.append((variable, now))
    return assignments, missing


def _compare_classes(
    context: Context,
    state: Mapping[str, Any],
    here: Mapping[Key, tf.Variable],
    report: LoadReport,
) -> Mapping[str, str]:
    """Reports another class; returns which of its slots are something else, and why."""
    if state.get("class_name") != context.class_name:
        report.mismatched.append(
            f"class: saved by {state.get('class_name')!r}, here {context.class_name!r}"
        )
    beside = {key[2] for key in here if key[0] == "variables"}
    return meanings.refused(context, state, beside)


def _by_path_here(
    state: Mapping[str, Any], found: matching.Match
) -> tuple[dict[Key, np.ndarray], list[tuple[Key, np.ndarray]], dict[str, dict[str, Any]]]:
    """Returns the saved arrays under the keys they have here, and those of no variable here.

    Last, by path, what says where slots began.
    """
    saved: dict[Key, np.ndarray] = {}
    begun: dict[str, dict[str, Any]] = {}
    surplus = []
    for key, value in flat(state).items():
        path = found.paths[key[1]] if key[0] == "variables" else ""
        if path and late.is_key(key[2]):
            begun.setdefault(path, {})[key[2]] = value
        elif path is None and late.is_key(key[2]):
            continue
        elif path is None:
            surplus.append((key, value))
        else:
            saved[(key[0], path, *key[2:]) if path else key] = value
    return saved, surplus, begun


def _compare(
    key: Key,
    variable: tf.Variable,
    value: np.ndarray,
    report: LoadReport,
    assignments: list[tuple[tf.Variable, np.ndarray]],
) -> None:
    """Adds an assignment where a saved array fits, else a line to the report."""
    line = described(key, variable)
    other = f"saved {tuple(value.shape)} {value.dtype.name}, here {line}"
    target = np.dtype(dtype_of(variable))
    whole, was_whole = (np.issubdtype(kind, np.integer) for kind in (target, value.dtype))
    numeric = np.issubdtype(value.dtype, np.number) or value.dtype.name == "bfloat16"
    fits = tuple(value.shape) == tuple(variable.shape) and numeric
    # Codes are no numbers: neither floats nor codes of another kind can stand for them.
    codes = key[0] == "variables" and (whole or was_whole) and value.dtype != target
    if not fits or codes or (whole and not was_whole):
        report.mismatched.append(other)
        return
    if not whole and value.dtype != target and key[0] != "scalars":
        report.cast.append(other)
    assignments.append((variable, value.astype(target, copy=False)))
    report.loaded.append(line)


def _compare_variables(
    context: Context, known: Mapping[str, str | None], report: LoadReport
) -> None:
    """Reports model variables that one side does not know, also where none has slots."""
    ours = {entry.path: entry for entry in context.store.tracked}
    for path in ours.keys() - set(known.values()):
        line = described(("variables", path, "(the variable)"), ours[path].variable)
        report.missing.append(line)
    surplus = [path for path, here in known.items() if here not in ours]
    report.unexpected += [f"{path} (the variable)" for path in surplus]


def _matched_paths(
    context: Context,
    entries: Sequence[Any],
    state: Mapping[str, Any],
    names: Mapping[str, str] | Callable[[str], str] | None,
    compare_values: bool,
) -> matching.Match:
    """Returns for each saved path the path here: what `names` says, or what is found.

    Raises:
      ValueError: `names` gives two saved paths one name.
    """
    saved = list(state["variables"])
    if names is not None:
        rename = names if callable(names) else lambda path: names.get(path, path)
        known = [rename(path) for path in saved]
        doubled = {path for path in known if known.count(path) > 1}
        if doubled:
            raise ValueError(
                f"{context.title}: argument `names` gives several saved variables the "
                f"same names: {sorted(doubled)}. Map each of them to another path."
            )
        return matching.Match(dict(zip(saved, known)))
    weights = state.get("weights") or {}
    return matching.match(
        [matching.Saved(path, weights.get(path)) for path in saved],
        [
            matching.Here(
                entry.path,
                tuple(entry.variable.shape),
                functools.partial(starts.value_of, entry.variable),
                path_of(entry.public),
            )
            for entry in entries
        ],
        compare_values,
    )


def was_not_built(state: Mapping[str, Any]) -> bool:
    """Says whether a state is that of an optimizer that had no slots yet."""
    if state.get("listed", True):
        return not state["variables"]
    built = state.get("built")
    if built is None:  # as written before this was noted
        started = np.any(np.asarray(state["scalars"].get("iterations", 0)))
        return not (started or state["variables"] or state["extra"])
    return not built


def _starts(context: Context, here: Mapping[Key, tf.Variable]) -> dict[Key, np.ndarray]:
    """Returns what a new optimizer's slots and counters hold."""
    first = context.store.starts
    return {
        key: np.asarray(first[id(variable)]())
        for key, variable in here.items()
        if key[1] not in RATES
    }
