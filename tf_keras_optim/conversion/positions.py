"""Which of our state variables each array is that Keras' optimizers number."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tf_keras_optim.engine.state import named_state
from tf_keras_optim.engine.state.named_state import Key
from tf_keras_optim.optimizers.records import Listed, keras_form

RATE: Key = ("scalars", "learning_rate")
UNUSED: Key = ()
_MOST_LINES = 20


@dataclasses.dataclass
class Layout:
    """What stands at each position.

    Attributes:
      title: whose layout it is.
      keys: what our state calls each array; `UNUSED` for what we do not keep.
      shapes: the shape of each, `None` where it does not matter.
    """

    title: str
    keys: list[Key] = dataclasses.field(default_factory=list)
    shapes: list[tuple[int, ...] | None] = dataclasses.field(default_factory=list)

    def add(self, key: Key, shape: Sequence[int] | None) -> None:
        """Adds an array at the next position."""
        self.keys.append(key)
        self.shapes.append(None if shape is None else tuple(shape))

    def fits(self, arrays: Sequence[np.ndarray | None]) -> bool:
        """Says whether arrays agree in number and shapes; `None` is a gap."""
        return len(arrays) == len(self.keys) and not self.differences(arrays)

    def differences(self, arrays: Sequence[np.ndarray | None]) -> list[str]:
        """Returns a line for each position at which the arrays differ."""
        lines = []
        for i in range(max(len(arrays), len(self.keys))):
            if i >= len(arrays):
                lines.append(f"{i}: not saved, expected {self._described(i)}")
            elif i >= len(self.keys):
                lines.append(f"{i}: saved {_shape(arrays[i])}, expected nothing")
            elif arrays[i] is None:
                if self.keys[i] != UNUSED:
                    lines.append(f"{i}: not saved, expected {self._described(i)}")
            elif self.shapes[i] is not None and _shape(arrays[i]) != self.shapes[i]:
                lines.append(f"{i}: saved {_shape(arrays[i])}, expected {self._described(i)}")
        return lines

    def _described(self, i: int) -> str:
        return f"{' '.join(self.keys[i][1:]) or 'an array'} {self.shapes[i]}"


def _shape(array: np.ndarray | None) -> tuple[int, ...]:
    return () if array is None else tuple(array.shape)


def layout_of(optimizer: Any, generation: int, with_rate: bool) -> Layout:
    """Returns how a generation of Keras numbers the state of an optimizer.

    Args:
      optimizer: one of ours, built.
      generation: 3, or 2 for tf_keras.
      with_rate: whether the learning rate is listed (Keras 3, where it is a number).
    """
    rate = "with its learning rate" if with_rate else "without a learning rate"
    layout = Layout(f"Keras {generation}, {rate}")
    layout.add(("scalars", "iterations"), ())
    if with_rate:
        layout.add(RATE, ())
    store = optimizer.tko.store
    keys = {id(v): key for key, v in named_state.collect(optimizer.tko.context).items()}
    apart = {id(entry.master) for entry in store.tracked}
    apart |= {id(v) for v in store.late().values()}
    apart |= {id(v) for entry in store.tracked for v in entry.started.values()}
    own = {id(v) for entry in store.tracked for v in entry.slots.values()}
    listed = _listed(optimizer, generation)
    plain = [
        v for v in store.state() if id(v) not in (apart if listed is None else apart | own)
    ]
    guard = {id(v) for v in store.guard.values()}
    absent = keras_form(type(optimizer)).absent if generation == 3 else store.step_slots
    aside = guard | {id(store.step_slots[name]) for name in absent}
    for variable in plain:
        if id(variable) not in aside:
            layout.add(keys[id(variable)], variable.shape)
    for path, arrays in listed or ():
        for slot, shape in arrays:
            layout.add(UNUSED if slot is None else ("variables", path, slot), shape)
    return layout


def _listed(optimizer: Any, generation: int) -> list[tuple[str, Listed]] | None:
    """Returns by variable what Keras lists in place of our slots, `None` if it lists these."""
    listed = keras_form(type(optimizer)).listed
    if listed is None:
        return None
    found = []
    for entry in optimizer.tko.store.tracked:
        arrays = listed(optimizer, tuple(entry.variable.shape), generation)
        if arrays is None:
            return None
        found.append((entry.path, arrays))
    return found


def layouts_of(optimizer: Any, generation: int | None) -> Iterator[Layout]:
    """Yields the layouts in which a generation of Keras, or either, lists the state."""
    if generation != 2:
        yield layout_of(optimizer, 3, with_rate=True)
        yield layout_of(optimizer, 3, with_rate=False)
    if generation != 3:
        yield layout_of(optimizer, 2, with_rate=False)


def matched(
    optimizer: Any, arrays: Sequence[np.ndarray | None], generation: int | None, title: str
) -> dict[Key, np.ndarray]:
    """Returns numbered arrays by what our state calls them.

    Args:
      optimizer: one of ours, built.
      arrays: the state in the order in which Keras lists it; `None` is a gap.
      generation: 3, or 2 for tf_keras, or `None` if that is not known.
      title: what the state is of, for messages.

    Raises:
      ValueError: no layout has this number of arrays with these shapes, or two have.
    """
    layouts = list(layouts_of(optimizer, generation))
    fitting = [layout for layout in layouts if layout.fits(arrays)]
    if any(layout.keys != fitting[0].keys for layout in fitting):
        raise ValueError(
            f"{title}: its {len(arrays)} arrays may be the state of an optimizer of Keras 3 or "
            "of tf_keras, with different meanings, and nothing says which. Convert the live "
            "optimizer, or a `.keras` file."
        )
    if not fitting:
        nearest = min(layouts, key=lambda layout: len(layout.differences(arrays)))
        lines = nearest.differences(arrays)
        more = [f"... and {len(lines) - _MOST_LINES} more"] * (len(lines) > _MOST_LINES)
        listed = "\n  ".join([*lines[:_MOST_LINES], *more])
        raise ValueError(
            f"{title}: its {len(arrays)} arrays are not the state of {optimizer.tko.title} for "
            f"these {len(optimizer.tko.store.tracked)} variables ({nearest.title}):\n"
            f"  {listed}\n"
            "Give the variables the source was built with, in its order, as `variables`, and "
            "the same options."
        )
    pairs = zip(fitting[0].keys, arrays)
    return {key: array for key, array in pairs if key != UNUSED and array is not None}
