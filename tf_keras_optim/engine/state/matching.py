"""Which saved model variable is which one here.

Names decide where they agree. Keras numbers layers through the life of a process, so they
often do not; then variables are taken in order, if every one has the saved one's last name
and shape. The values of the weights decide between several possibilities, and show a mix-up.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tf_keras_optim.engine.state.fingerprints import fingerprint
from tf_keras_optim.engine.state.layer_names import (
    LayerNames,
    layer,
    moved_evenly,
    unnumbered,
    without_number,
)

Pairs = dict[int, int]  # places among the saved variables, and the places here
_Shape = tuple[int, ...] | None
_Layer = dict[str, _Shape]  # by the names of its variables


@dataclasses.dataclass(frozen=True)
class Saved:
    """A model variable as it was saved.

    Attributes:
      path: its name then.
      weight: its fingerprint then, `None` if it is not known.
    """

    path: str
    weight: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Here:
    """A model variable of this process.

    Attributes:
      path: its name.
      shape: its shape.
      value: returns its value, `None` where it has none yet.
      own: the name that Keras gave it, which others may have too; by default the path.
    """

    path: str
    shape: tuple[int, ...]
    value: Callable[[], np.ndarray | None]
    own: str | None = None


@dataclasses.dataclass
class Match:
    """What was found.

    Attributes:
      paths: saved paths and the path here, `None` where there is none.
      doubts: lines of text, where the values of the weights speak against it.
      is_sure: whether every variable of one side was found on the other.
      is_guess: whether every one was found, but by names that repeat or moved unevenly.
    """

    paths: dict[str, str | None]
    doubts: list[str] = dataclasses.field(default_factory=list)
    is_sure: bool = True
    is_guess: bool = False


def match(saved: Sequence[Saved], here: Sequence[Here], compare_values: bool = True) -> Match:
    """Returns which saved variable is which one here.

    One side may have variables that the other has not: layers that were frozen or added.

    Args:
      saved: the saved variables, in model order.
      here: the variables here, in model order.
      compare_values: whether the values here may be looked at.

    Returns:
      match: where nothing else can be told, a variable is the one of the same path.
    """
    pairs = _by_path(saved, here)
    if pairs is not None and len(saved) == len(here) and _keeps_order(pairs):
        return Match(_paths(pairs, saved, here))
    repeat = pairs is not None and _may_be_others(saved, here)
    if pairs is not None and len(saved) == len(here):
        pairs = _by_place(pairs, saved, here)
    if pairs is None:
        pairs = _by_end_of_path(saved, here)
    if pairs is None:
        pairs = _in_order(saved, here)
    values = _Values(saved, here) if compare_values else None
    is_open = repeat or (pairs is not None and not moved_evenly(_layers(pairs, saved, here)))
    if pairs is not None and values is None:
        return Match(_paths(pairs, saved, here), is_sure=not is_open, is_guess=is_open)
    doubts = values.doubts(pairs) if pairs is not None and values is not None else []
    if pairs is not None and values is not None and not doubts and values.speak_against(pairs):
        pairs = None
    if values is not None and (pairs is None or doubts or is_open):
        by_value = values.pairs()
        if by_value is not None:
            return Match(_paths(by_value, saved, here))
    if pairs is None:
        told = {} if values is None else values.told()
        pairs = _in_part(saved, here, told)
        sure = _is_known(pairs, saved, here, told)
        others = {h.path for j, h in enumerate(here) if j not in pairs.values()}
        paths = _paths(pairs, saved, here)
        # What has its name alone here has another shape: that is said, and not loaded.
        paths |= {s.path: s.path for s in saved if paths[s.path] is None and s.path in others}
        return Match(paths, is_sure=sure)
    told = {} if values is None else values.told()
    guess = is_open and not (told and all(pairs.get(i) == j for i, j in told.items()))
    return Match(_paths(pairs, saved, here), doubts, is_sure=not guess, is_guess=guess)


def _paths(pairs: Pairs, saved: Sequence[Saved], here: Sequence[Here]) -> dict[str, str | None]:
    found = {saved[i].path: here[j].path for i, j in pairs.items()}
    return {s.path: found.get(s.path) for s in saved}


def _keeps_order(pairs: Pairs) -> bool:
    order = [pairs[i] for i in sorted(pairs)]
    return order == sorted(order)


def _fits(saved: Saved, here: Here) -> bool:
    return _shape(saved) in (None, tuple(here.shape))


def _whole(pairs: Pairs, saved: Sequence[Saved], here: Sequence[Here]) -> Pairs | None:
    """Returns the pairs if every variable of one side has one and the shapes agree."""
    enough = len(pairs) == min(len(saved), len(here))
    same = all(_fits(saved[i], here[j]) for i, j in pairs.items())
    return pairs if enough and same else None


def _by_path(saved: Sequence[Saved], here: Sequence[Here]) -> Pairs | None:
    places = {variable.path: j for j, variable in enumerate(here)}
    pairs = {i: places[s.path] for i, s in enumerate(saved) if s.path in places}
    return _whole(pairs, saved, here)


def _repeating(here: Sequence[Here]) -> list[list[int]]:
    """Returns the places of variables to which Keras gave one name, for each such name."""
    groups: dict[str, list[int]] = {}
    for j, variable in enumerate(here):
        groups.setdefault(variable.own or variable.path, []).append(j)
    return [group for group in groups.values() if len(group) > 1]


def _by_place(pairs: Pairs, saved: Sequence[Saved], here: Sequence[Here]) -> Pairs:
    """Returns pairs in which variables of one name stand in order.

    The numbers behind such names say only which was known first.
    """
    back = {j: i for i, j in pairs.items()}
    ordered = dict(pairs)
    for group in _repeating(here):
        ordered |= zip(sorted(back[j] for j in group), group)
    return _whole(ordered, saved, here) or pairs


def _may_be_others(saved: Sequence[Saved], here: Sequence[Here]) -> bool:
    """Whether more variables of a name that repeats were saved than are here, or fewer."""
    if len(saved) == len(here):
        return False
    repeating = {without_number(here[j].path) for group in _repeating(here) for j in group}
    counts = []
    for side in (saved, here):
        stems = [without_number(v.path) for v in side]
        # Names of no layer are those of layers that Keras 2 has built from a file.
        counts.append({s: stems.count(s) for s in stems if s in repeating or "/" not in s})
    one, other = counts
    return any(one[s] != other[s] for s in one.keys() & other.keys())


def _by_end_of_path(saved: Sequence[Saved], here: Sequence[Here]) -> Pairs | None:
    """Compares the paths without what stands in front: the model may have another name."""
    sides = [[v.path.split("/") for v in side] for side in (saved, here)]
    deepest = max((len(path) for side in sides for path in side), default=0)
    for depth in range(deepest - 1, 1, -1):
        ends = [[tuple(path[-depth:]) for path in side] for side in sides]
        if any(len(set(side)) != len(side) for side in ends):
            return None
        places = {end: j for j, end in enumerate(ends[1])}
        pairs = {i: places[end] for i, end in enumerate(ends[0]) if end in places}
        found = _whole(pairs, saved, here)
        # What only one side has could be what was numbered anew.
        if found is not None and len(saved) == len(here):
            return found
    return None


def _in_order(saved: Sequence[Saved], here: Sequence[Here]) -> Pairs | None:
    """Pairs variables in order, if there is only one way to do so."""

    def fits(i: int, j: int) -> bool:
        ends = [without_number(v.path.split("/")[-1]) for v in (saved[i], here[j])]
        return ends[0] == ends[1] and _fits(saved[i], here[j])

    if len(saved) <= len(here):
        pairs = _only_embedding(len(saved), len(here), fits)
    else:
        found = _only_embedding(len(here), len(saved), lambda j, i: fits(i, j))
        pairs = None if found is None else {i: j for j, i in found.items()}
    if pairs is None:
        return None
    # Names that are here too, but elsewhere, must have come about by other numbers.
    known = {variable.path for variable in here}
    moved = [(saved[i].path, here[j].path) for i, j in pairs.items()]
    moved = [(one, other) for one, other in moved if one != other]
    numbered = all(unnumbered(one) == unnumbered(other) for one, other in moved)
    return pairs if numbered or not any(one in known for one, _ in moved) else None


def _in_part(saved: Sequence[Saved], here: Sequence[Here], told: Pairs) -> Pairs:
    """Pairs what fits where others have another shape, or are on one side only.

    Args:
      saved: the saved variables.
      here: the variables here.
      told: pairs that are known by the values of the weights.
    """
    places = {variable.path: j for j, variable in enumerate(here)}
    by_path = {
        i: places[s.path]
        for i, s in enumerate(saved)
        if s.path in places and _fits(s, here[places[s.path]])
    }
    same_names = all(saved[i].path == here[j].path for i, j in told.items())
    pairs = told | by_path if same_names else dict(told)
    layers = _layers(told, saved, here)
    for i, variable in enumerate(saved):  # biases, say, that have no value of their own yet
        own, _, name = variable.path.rpartition("/")
        j = places.get(f"{layers.get(own)}/{name}", -1) if own else -1
        if j >= 0 and i not in pairs and j not in pairs.values() and _fits(variable, here[j]):
            pairs[i] = j
    if pairs or len(saved) != len(here):
        return pairs
    ends = [[unnumbered(v.path)[-1] for v in side] for side in (saved, here)]
    if ends[0] != ends[1]:
        return {}
    return {i: i for i in range(len(saved)) if _fits(saved[i], here[i])}


def _is_known(pairs: Pairs, saved: Sequence[Saved], here: Sequence[Here], told: Pairs) -> bool:
    """Whether the weights say who is who, and what is left over on both sides is unlike.

    A layer may have got other weights since, a low-rank adapter in place of its kernel, say.
    """
    layers = _layers(told, saved, here)
    if not told or any(
        layers.get(layer(saved[i].path)) != layer(here[j].path) for i, j in pairs.items()
    ):
        return False
    taken = set(pairs.values())
    gone = _by_layer((s.path, _shape(s)) for i, s in enumerate(saved) if i not in pairs)
    new = _by_layer((h.path, tuple(h.shape)) for j, h in enumerate(here) if j not in taken)
    names = LayerNames(layers)
    return not any(
        _is_alike(gone[one], new[other], names.is_one(one, other))
        and not names.is_another(one, other)
        for one in gone
        for other in new
    )


def _is_alike(one: _Layer, other: _Layer, has_its_name: bool) -> bool:
    """Whether what is left of a saved layer and what is new in one here look the same.

    Args:
      one: the shapes of the saved variables.
      other: those of the variables here.
      has_its_name: whether both layers have one name.
    """
    common = [name for name in one if name in other]
    same = all(one[name] in (None, other[name]) for name in common)
    return bool(common) and (same or has_its_name)


def _by_layer(variables: Iterable[tuple[str, _Shape]]) -> dict[str, _Layer]:
    """Returns the shapes of variables by the name of their layer, and their own."""
    layers: dict[str, _Layer] = {}
    for path, shape in variables:
        layers.setdefault(layer(path), {})[unnumbered(path)[-1]] = shape
    return layers


def _layers(pairs: Pairs, saved: Sequence[Saved], here: Sequence[Here]) -> dict[str, str]:
    return {layer(saved[i].path): layer(here[j].path) for i, j in pairs.items()}


def _shape(saved: Saved) -> _Shape:
    return None if saved.weight is None else tuple(saved.weight["shape"])


def _only_embedding(few: int, many: int, fits: Callable[[int, int], bool]) -> Pairs | None:
    """Pairs each of the few, in order, with one of the many, if one way alone is possible."""
    first = _embedded(range(few), range(many), fits)
    last = _embedded(range(few)[::-1], range(many)[::-1], fits)
    return first if first == last else None


def _embedded(
    few: Sequence[int], many: Sequence[int], fits: Callable[[int, int], bool]
) -> Pairs | None:
    """Returns for each of the few the next of the many that fits."""
    pairs: Pairs = {}
    rest = iter(many)
    for one in few:
        found = next((other for other in rest if fits(one, other)), None)
        if found is None:
            return None
        pairs[one] = found
    return pairs


class _Values:
    """What the values of the weights say about who is who.

    Args:
      saved: the saved variables.
      here: the variables here.
    """

    def __init__(self, saved: Sequence[Saved], here: Sequence[Here]):
        self._saved, self._here = saved, here
        self._equal: dict[tuple, list[int]] = {}
        self._telling: set[int] = set()
        if not any(variable.weight for variable in saved):
            return
        for j, variable in enumerate(here):
            value = variable.value()
            if value is None:
                continue
            self._equal.setdefault(_mark(fingerprint(value)), []).append(j)
            # What is still as an initializer made it, all zeros say, tells nothing.
            if value.size > 1 and not (value == value.flat[0]).all():
                self._telling.add(j)

    def _candidates(self, saved: Saved) -> list[int]:
        return [] if saved.weight is None else self._equal.get(_mark(saved.weight), [])

    def doubts(self, pairs: Pairs) -> list[str]:
        """Returns a line for each saved weight that another variable here has."""
        lines = []
        for i, j in pairs.items():
            others = self._candidates(self._saved[i])
            if others and j not in others and self._telling.issuperset(others):
                names = " or ".join(self._here[k].path for k in others)
                lines.append(
                    f"{self._saved[i].path}: the saved weight is that of {names} here, while "
                    f"names and order say {self._here[j].path}"
                )
        return lines

    def speak_against(self, pairs: Pairs) -> bool:
        """Says whether a layer of other weights has a name that the saved one cannot have."""
        layers = _layers(self.told(), self._saved, self._here)
        names = LayerNames(layers)
        return any(
            self._saved[i].weight is not None
            and j in self._telling
            and j not in self._candidates(self._saved[i])
            and layer(self._saved[i].path) not in layers
            and names.speak_against(layer(self._saved[i].path), layer(self._here[j].path))
            for i, j in pairs.items()
        )

    def told(self) -> Pairs:
        """Returns the pairs of equal weights that no initializer makes twice."""
        found = [self._candidates(saved) for saved in self._saved]
        pairs = {i: equal[0] for i, equal in enumerate(found) if len(equal) == 1}
        taken = list(pairs.values())
        return {i: j for i, j in pairs.items() if taken.count(j) == 1 and j in self._telling}

    def pairs(self) -> Pairs | None:
        """Returns the pairs of equal weights, if every one of one side has one of its own."""
        found = [self._candidates(saved) for saved in self._saved]
        pairs = {i: equal[0] for i, equal in enumerate(found) if len(equal) == 1}
        layers = _layers(pairs, self._saved, self._here)
        for i, equal in enumerate(found):
            if len(equal) > 1:  # several layers have it; it goes with the rest of its own
                own = layers.get(layer(self._saved[i].path))
                near = [j for j in equal if layer(self._here[j].path) == own]
                pairs |= {i: near[0]} if len(near) == 1 else {}
        few = min(len(self._saved), len(self._here))
        distinct = len(set(pairs.values())) == len(pairs) == few
        return pairs if distinct and self._telling.intersection(pairs.values()) else None


def _mark(found: Mapping[str, Any]) -> tuple:
    return (tuple(found["shape"]), found["dtype"], found["crc32"])
