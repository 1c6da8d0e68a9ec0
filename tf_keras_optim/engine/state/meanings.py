"""What slots mean: whether a slot of another algorithm may stand for one's own.

Slots of one name need not be one quantity: what is a mean of gradients in one algorithm is the
last step in another. So a slot has a meaning, a text that its algorithm declares, and a slot
that another class has saved is taken over where the texts are equal.
"""

import itertools
from collections.abc import Iterator, Mapping, Set
from typing import Any

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.nature import has_algorithm
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.state.slots import STARTED
from tf_keras_optim.engine.state.store import BEGUN

_OF_EVERY_CLASS = frozenset({"average", "gradient_accumulator", "master"})
_APART = ": "  # between path and slot, where a slot has a meaning of its own beside a variable
_BESIDE = ("_scale", STARTED)  # end the names of what belongs to a slot


def of_class(cls: type[Algorithm], slot: str) -> str:
    """Returns what a slot of a class means.

    That is what the class, or the nearest class above it, declares. Where none does, the
    slot is the one of that name in the topmost algorithm among them, and no other.
    """
    for owner in cls.__mro__:
        declared = _said_by(owner)
        if slot in declared:
            return str(declared[slot])
    algorithms = [c for c in cls.__mro__ if issubclass(c, Algorithm) and has_algorithm(c)]
    return f"{(algorithms or [cls])[-1].__name__}.{slot}"


def of(context: Context) -> dict[str, str]:
    """Returns what an optimizer's slots mean, by their names in its state."""
    store = context.store
    names = {slot.name for slot in context.algorithm.step_slots}
    beside: set[tuple[str, str]] = set()
    for entry in store.tracked:
        names |= entry.slots.keys()
        beside |= {*itertools.product(entry.scales, _BESIDE[:1])}
        beside |= {*itertools.product(entry.started, _BESIDE[1:])}
    own = {id(variable) for variable in store.extra}
    names |= {name for name, variable in store.named.items() if id(variable) in own}
    names |= {slot for _, slot in store.owners.values()}
    found = {name: of_class(class_of(context.algorithm), name) for name in sorted(names)}
    found |= {name + kind: found[name] for name, kind in sorted(beside)}
    return found | _of_variables(context, found)


def _of(path: str, slot: str) -> str:
    """Returns the name under which the meaning of one variable's slot stands."""
    return f"{path}{_APART}{slot}"


def _of_variables(context: Context, common: Mapping[str, str]) -> dict[str, str]:
    """Returns, by path and slot, what slots mean that mean something else than most do.

    That is so in groups with another algorithm, and where an algorithm says so of a slot.
    """
    found: dict[str, str] = {}
    for entry in context.store.tracked:
        cls = class_of(context.of(entry).algorithm)
        for slot in entry.declared:
            meaning = slot.meaning or of_class(cls, slot.name)
            if meaning != common[slot.name]:
                names = (slot.name, *(slot.name + kind for kind in _BESIDE))
                kept = entry.kept()
                found |= {_of(entry.path, name): meaning for name in names if name in kept}
    return found


def meaning(told: Mapping[str, Any], key: tuple[str, ...]) -> str | None:
    """Returns what an array means, by its key in a state.

    Args:
      told: what slots mean, as `of` returns it.
      key: the key, of which the last two parts are the variable's path and the slot.
    """
    return told.get(_APART.join(key[1:]), told.get(key[-1]))


def note(told: dict[str, str], key: tuple[str, ...], meaning: str) -> None:
    """Adds the meaning of an array to what is known of slots; see `meaning`."""
    name = key[-1] if told.get(key[-1], meaning) == meaning else _APART.join(key[1:])
    told[name] = meaning


def refused_here(
    context: Context, state: Mapping[str, Any], paths: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Returns whether saved slots of single variables are something else than those here.

    That is where groups of variables have algorithms of their own, or slots of one name mean
    different things, here or in the state.

    Args:
      context: what the optimizer's parts share.
      state: a state dict.
      paths: saved paths and the paths here.

    Returns:
      By path here and slot, where one of the two says what it means there: a text that says
      why it cannot be taken over, or `None` where it can be, whatever the class.
    """
    here, told = of(context), state.get("meanings") or {}
    apart = {name for name in (*here, *told) if _APART in name}
    found: dict[str, str | None] = {}
    for saved, slots in state["variables"].items() if apart else ():
        path = paths.get(saved)
        for slot in slots if path else ():
            if not {_of(saved, slot), _of(str(path), slot)} & apart:
                continue
            before = meaning(told, ("variables", saved, slot))
            now = meaning(here, ("variables", str(path), slot))
            if before == now:
                found[_of(str(path), slot)] = None
            elif None not in (before, now):
                found[_of(str(path), slot)] = f"saved as {before!r}, here {now!r}"
    return found


def refused(context: Context, state: Mapping[str, Any], kept: Set[str]) -> dict[str, str]:
    """Returns which slots of a saved state are something else than those here.

    Args:
      context: what the optimizer's parts share.
      state: a state dict; its arrays are not looked at.
      kept: the names of what the optimizer keeps beside model variables.

    Returns:
      By the names of such slots a text that says why they cannot be taken over.
    """
    class_name = state.get("class_name")
    if class_name == context.class_name:
        return {}
    here = of(context)
    slots = _own({n for names in state["variables"].values() for n in names})
    others = {n for section in ("scalars", "extra") for n in state.get(section) or ()}
    if class_name is None and slots == _own(kept):
        return {}
    saved = _of_state(state, slots, slots | (others & here.keys()))
    return {
        name: f"saved by {class_name!r} as {saved[name] or 'unknown'!r}, here {meaning!r}"
        for name, meaning in here.items()
        if name in saved and saved[name] != meaning
    }


def _own(names: Set[str]) -> set[str]:
    """Returns those names that are not the same quantity in every class."""
    return {n for n in names - _OF_EVERY_CLASS if n.partition("/")[0] != BEGUN}


def _of_state(
    state: Mapping[str, Any], slots: Set[str], names: Set[str]
) -> dict[str, str | None]:
    """Returns what saved slots mean, `None` where it cannot be told.

    Earlier versions say at most by which class a state was made. Where even that is not said,
    it is what all classes agree upon that declare such slots.
    """
    class_name, told = state.get("class_name"), state.get("meanings") or {}
    if class_name is None:
        plain = {_base(name, slots) for name in slots}
        classes = [cls for cls in _known(Algorithm) if plain <= _declared(cls)]
    else:
        classes = [cls for cls in _known(Algorithm) if cls.__name__ == class_name]
    found: dict[str, str | None] = {}
    for name in names:
        base = _base(name, names)
        possible = {of_class(cls, base) for cls in classes}
        unknown = None if class_name is None else f"{class_name}.{base}"
        found[name] = possible.pop() if len(possible) == 1 else unknown
    return found | {name: text for name, text in told.items() if name in names}


def _base(name: str, names: Set[str]) -> str:
    """Returns the name of the slot that something beside it belongs to; else its own."""
    bases = (name.removesuffix(kind) for kind in _BESIDE if name.endswith(kind))
    return next((base for base in bases if base in names), name)


def _declared(cls: type[Algorithm]) -> set[str]:
    return {name for owner in cls.__mro__ for name in _said_by(owner)}


def _said_by(cls: type) -> Mapping[str, str]:
    """Returns what one class declares; a class of a user's may call something else so."""
    declared = vars(cls).get("slot_meanings")
    return declared if isinstance(declared, Mapping) else {}


def _known(cls: type[Algorithm]) -> Iterator[type[Algorithm]]:
    for one in cls.__subclasses__():
        if has_algorithm(one):
            yield one
        yield from _known(one)
