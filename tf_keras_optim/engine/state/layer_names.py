"""What the names of layers say of who is who.

Keras numbers layers through the life of a process. A model that is made again by the same code
has its layers' numbers shifted, all those of one kind by as much.
"""

import re
from collections.abc import Mapping

_NUMBERS = re.compile(r"(_\d+)+$")
_Shift = tuple[tuple[int, ...], ...]


def without_number(name: str) -> str:
    """Returns a name without the number at its end."""
    return _NUMBERS.sub("", name)


def unnumbered(path: str) -> list[str]:
    """Returns the names in a path without their numbers."""
    return [without_number(name) for name in path.split("/")]


def layer(path: str) -> str:
    """Returns the path of a variable's layer, empty where there is none."""
    return path.rpartition("/")[0]


class LayerNames:
    """The names of layers, where some are known by their weights.

    Args:
      known: the saved layers whose weights some layer here has, and that layer.
    """

    def __init__(self, known: Mapping[str, str]):
        self._known = known
        self._shifts = [_shift(saved, here) for saved, here in known.items()]

    def is_another(self, saved: str, here: str) -> bool:
        """Says whether the names show that a layer here is not a certain saved one.

        Args:
          saved: the path of the saved layer.
          here: the path of the layer here; neither is among the known ones.
        """
        if not (saved and here and self._known):
            return False
        own = _shift(saved, here)
        if own is None:  # by more than their numbers names did not change elsewhere
            return None not in self._shifts
        return bool(self._of_kind(saved, here)) and own not in self._of_kind(saved, here)

    def is_one(self, saved: str, here: str) -> bool:
        """Says whether a layer here has the name that a saved one has here, whatever it is."""
        known = self._of_kind(saved, here)
        if known:
            return _shift(saved, here) in known
        return saved.rpartition("/")[2] == here.rpartition("/")[2]

    def speak_against(self, saved: str, here: str) -> bool:
        """Says whether two layers have numbers that one layer cannot have."""
        return _shift(saved, here) is not None and self.is_another(saved, here)

    def _of_kind(self, saved: str, here: str) -> list[_Shift]:
        """Returns the shifts of known layers whose names are as that of a pair is."""
        depth = min(saved.count("/"), here.count("/")) + 1
        kind = unnumbered(here)[-depth:]
        return [
            shift[-depth:]
            for (_, other), shift in zip(self._known.items(), self._shifts)
            if shift is not None and unnumbered(other)[-depth:] == kind
        ]


def moved_evenly(layers: Mapping[str, str]) -> bool:
    """Says whether the numbers of all layers of a kind have changed by as much.

    Args:
      layers: saved layers and those here.
    """
    shifts: dict[tuple[str, ...], set[_Shift]] = {}
    for saved, here in layers.items():
        shift = _shift(saved, here)
        if saved and here and shift is not None:
            shifts.setdefault(tuple(unnumbered(here)[-len(shift) :]), set()).add(shift)
    return all(len(found) == 1 for found in shifts.values())


def _shift(one: str, other: str) -> _Shift | None:
    """Returns by how much the numbers in two paths differ, `None` if more differs.

    What stands in front in the longer path does not count: a model that was loaded has none.
    """
    names = list(zip(one.split("/")[::-1], other.split("/")[::-1]))[::-1]
    if any(without_number(a) != without_number(b) for a, b in names):
        return None
    return tuple(_difference(_numbers(a), _numbers(b)) for a, b in names)


def _numbers(name: str) -> list[int]:
    return [int(part) for part in name[len(without_number(name)) :].split("_") if part]


def _difference(one: list[int], other: list[int]) -> tuple[int, ...]:
    length = max(len(one), len(other), 1)
    padded = [numbers + [0] * (length - len(numbers)) for numbers in (one, other)]
    return tuple(b - a for a, b in zip(*padded))
