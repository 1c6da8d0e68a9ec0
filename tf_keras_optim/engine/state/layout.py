"""The state as numbered arrays, which is how Keras' files hold it, with notes on each.

The numbers are Keras' own and Keras reads them. A note says what an array is (variable,
slot) and what its bytes add up to; it is an attribute of the array in the HDF5 file, which
Keras does not look at.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import evaluation, inventory, late, meanings, named_state
from tf_keras_optim.engine.state.fingerprints import fingerprint, is_fingerprint
from tf_keras_optim.engine.state.saved_arrays import kept
from tf_keras_optim.engine.state.state_form import FORMAT, VERSION
from tf_keras_optim.engine.step import accumulation

MULTIPLIER = "learning_rate_multiplier"  # left out where it is 1: Keras has no place for it
ATTRIBUTE = "tf_keras_optim"
_INNER = "inner_optimizer"  # as Keras' LossScaleOptimizer calls what it wraps

Values = dict[str, np.ndarray]
Notes = dict[str, dict[str, Any]]


def write(store: Any, values: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    """Writes arrays into a Keras store, and the notes where the store is an HDF5 file."""
    for key, value in values.items():
        store[key] = value
        attributes = _attributes(store, key)
        if attributes is not None and key in notes:
            # Of fixed length: HDF5 keeps others in a heap, and crashes where that is damaged.
            attributes[ATTRIBUTE] = np.bytes_(json.dumps(notes[key] | _sum_of(notes[key])))


def arranged(context: Context) -> tuple[Values, Notes]:
    """Returns the state as numbered arrays, what Keras lacks by name, and the notes.

    Where slots began is in the notes on them alone.
    """
    keys = {id(v): key for key, v in named_state.collect(context).items()}
    store, begun = context.store, late.of(context)
    weights = {entry.path: fingerprint(entry.variable.numpy()) for entry in store.tracked}
    begun_by_path = {e.path: begun[id(e)] for e in store.tracked if id(e) in begun}
    told = meanings.of(context)
    numbered = {str(i): v for i, v in enumerate(inventory.positional(context))}
    values: Values = {}
    notes: Notes = {}
    for name, variable in (numbered | inventory.by_name(context)).items():
        key = keys[id(variable)]
        if len(key) == 3 and late.is_key(key[2]):
            continue
        value = np.asarray(variable.numpy())
        if name == MULTIPLIER and value == 1.0:
            continue
        values[name] = value
        if key[0] != "variables":
            notes[name] = note(key, value, meaning=meanings.meaning(told, key))
            continue
        own = begun_by_path.get(key[1])
        slots = None if own is None else {n: v.item() for n, v in late.to_slots(own).items()}
        weight, meaning = weights.get(key[1]), meanings.meaning(told, key)
        notes[name] = note(key, value, weight=weight, meaning=meaning, begun=slots)
    rate = MULTIPLIER if store.multiplier is not None else None
    notes["0"]["rate"] = rate if store.rate is None else "learning_rate"
    notes["0"]["class_name"] = context.class_name
    notes["0"]["built"] = context.store.is_built
    notes["0"][accumulation.STEPS] = store.counted_by
    if evaluation.is_on(context):
        notes["0"][evaluation.EVALUATING] = True
    return values, notes


def read(store: Any, title: str) -> tuple[Values, Notes]:
    """Returns the arrays of a Keras store and the notes on them.

    Raises:
      ValueError: an array is not the one that its note describes.
    """
    values: Values = {}
    notes: Notes = {}
    for key in store.keys():  # noqa: SIM118  (a store is no mapping)
        attributes = _attributes(store, key)
        values[key] = kept(store[key])
        if attributes is None or ATTRIBUTE not in attributes:
            continue
        values[key], notes[key] = noted(values[key], attributes[ATTRIBUTE], key, f"{title}: ")
    if notes and set(notes) != set(values):
        raise ValueError(
            f"{title}: the saved state is damaged: arrays {sorted(set(values) - set(notes))} "
            "have lost their notes. Load another checkpoint."
        )
    return values, notes


def noted(value: Any, text: str, name: str, title: str = "") -> tuple[Any, dict[str, Any]]:
    """Returns an array, in the dtype that it was saved in, and the note on it.

    Args:
      value: the array.
      text: the note as it stands in the file.
      name: the array's name there, for messages.
      title: what messages begin with.

    Raises:
      ValueError: the note cannot be read, or the array is not the one that it describes.
    """
    try:
        note = json.loads(text)
        guarded = {name: note.pop(name) for name in _sum_of({}) if name in note}
        if guarded != _sum_of(note) and (guarded or isinstance(text, bytes)):
            raise ValueError("its own checksum differs")  # the first release wrote none
        saved, key = note["array"], note["key"]
        if not all(isinstance(part, str) for part in (*key, saved["dtype"])):
            raise TypeError(f"{key!r} is no name")
        if not isinstance(note.get("meaning", ""), str):
            raise TypeError(f"{note['meaning']!r} is no text")
        if not is_fingerprint(note.get("weight", saved)):
            raise TypeError(f"{note['weight']!r} says nothing of a weight")
        if value.dtype.kind == "V":  # NumPy has no name for bfloat16
            value = value.view(np.dtype(saved["dtype"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{title}the saved state is damaged: the note on array {name!r} cannot be read "
            f"({error}). Load another checkpoint."
        ) from error
    found: dict[str, Any] = {"shape": list(value.shape)}
    if found["shape"] == saved.get("shape"):
        found = fingerprint(value)
    if found != saved:
        raise ValueError(
            f"{title}the saved state is damaged: array {name!r} ({' '.join(key)}) should be "
            f"{saved}, but is {found}. Load another checkpoint."
        )
    return value, note


def inside(store: Any) -> Any:
    """Returns the place of the optimizer inside, where a wrapper wrote a Keras store.

    Args:
      store: the store; only one in an HDF5 file shows what is beside it.

    Returns:
      The HDF5 group of the optimizer inside; `None` where there is none.
    """
    beside = getattr(_group(store), "parent", None)
    for name in (_INNER, "vars"):
        if beside is None or not _is_group(beside, name):
            return None
        beside = beside[name]
    return beside


def _is_group(group: Any, name: str) -> bool:
    """Whether a group has another one, in the same file."""
    if name not in group:
        return False
    is_link = type(group.get(name, getlink=True)).__name__ != "HardLink"
    return not is_link and hasattr(group[name], "keys")


def _sum_of(note: Mapping[str, Any]) -> dict[str, int]:
    """Returns what guards a note itself."""
    return {"crc32": zlib.crc32(json.dumps(note, sort_keys=True).encode())}


def _group(store: Any) -> Any:
    """Returns the HDF5 group of a store that has one, else the store, which may be one."""
    return getattr(store, "group", store)


def _attributes(store: Any, key: str) -> Any:
    """Returns the HDF5 attributes of an array in a Keras store, `None` elsewhere."""
    group = _group(store)
    if group is None or key not in group:
        return None
    return getattr(group[key], "attrs", None)


def note(key: tuple[str, ...], value: Any, **more: Any) -> dict[str, Any]:
    """Returns the note on an array.

    Args:
      key: what the array is.
      value: the array.
      **more: what else is known; `None` is left out. `class_name` of the optimizer; what a
        slot means, `meaning`;
        `weight`, the fingerprint of the model variable that it belongs to; `rate`, the
        name of the scalar that holds the learning rate, whether it is saved or not;
        `built`, whether the optimizer had its slots; `begun`, where those of this variable
        began, if it came late.
    """
    own = {"key": list(key), "array": fingerprint(value)}
    return own | {name: v for name, v in more.items() if v is not None}


def to_state(values: Values, notes: Notes) -> dict[str, Any]:
    """Returns the state dict that arrays and the notes on them make up."""
    state: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "class_name": None,
        "meanings": {},
        "listed": False,
        "built": None,
        "unsaved": [],
        "scalars": {},
        "variables": {},
        "extra": {},
        "weights": {},
    }
    numbered = sorted((key for key in notes if key.isdigit()), key=int)
    for name in [*numbered, *(key for key in notes if not key.isdigit())]:
        key = notes[name]["key"]
        section = state
        for part in key[:-1]:
            section = section.setdefault(part, {})
        section[key[-1]] = values[name]
        if "meaning" in notes[name]:
            meanings.note(state["meanings"], tuple(key), notes[name]["meaning"])
        begun = notes[name].get("begun") or {}
        section |= {slot: np.asarray(value) for slot, value in begun.items()}
        if "weight" in notes[name]:
            state["weights"][key[1]] = notes[name]["weight"]
        state["class_name"] = notes[name].get("class_name", state["class_name"])
        state[accumulation.STEPS] = notes[name].get(
            accumulation.STEPS, state.get(accumulation.STEPS)
        )
        state["built"] = notes[name].get("built", state["built"])
        if notes[name].get(evaluation.EVALUATING):
            state[evaluation.EVALUATING] = True
    rate = next((n["rate"] for n in notes.values() if "rate" in n), None)
    if rate == MULTIPLIER:
        state["scalars"].setdefault(MULTIPLIER, np.float32(1.0))
    elif rate is not None and rate not in state["scalars"]:
        state["unsaved"].append(rate)
    return state
