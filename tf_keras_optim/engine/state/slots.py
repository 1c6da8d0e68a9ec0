"""The state variables that an algorithm declares, and what they start from."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.numerics import quantization

VALUE, IDENTITY = "value", "identity"  # what a slot may start from, beside a number
STARTED = "_started"  # ends the name of what says whether a slot has taken its first value


@dataclasses.dataclass(frozen=True)
class Slot:
    """One state variable that an algorithm keeps for every model variable.

    Attributes:
      name: what the quantity is called, e.g. "momentum".
      initial_value: number that every element starts from.
      group: slots of one group are laid out side by side for each variable;
        groups follow one another. This is the order of `optimizer.variables`.
      shape: its shape, where that is not the variable's.
      eight_bit: "signed" or, where no element is ever negative, "unsigned", if the slot
        may be kept in 8 bits (a running mean may); it then starts from 0.
      start: what it starts from: a number, as `initial_value`; "value": the value that the
        variable has when it is updated for the first time, before decay, with all digits
        that are kept of it; "identity": an identity matrix, or one for each of the leading
        axes. By default `initial_value`.
      meaning: what it means beside a variable where that is not what `slot_meanings` of the
        class says of the name, as an algorithm may keep different things for different
        variables.
      keeps_digits: whether it has the dtype of the arithmetic whatever `slot_dtype` says, as
        copies of weights have.
      every: only each so many elements of the variable count, from the first one on, in the
        order of a flattened array; the slot has one axis then.
    """

    name: str
    initial_value: float = 0.0
    group: int = 0
    shape: tuple[int, ...] | None = None
    eight_bit: str | None = None
    start: float | str | None = None
    meaning: str | None = None
    keeps_digits: bool = False
    every: int = 1

    def __post_init__(self) -> None:
        shaped = self.shape is not None and self.every != 1
        if not isinstance(self.every, int) or self.every < 1 or shaped:
            raise ValueError(
                f"Slot {self.name!r}: `every` must be an integer of at least 1, and 1 where a "
                f"`shape` is given. Received: every={self.every!r}, shape={self.shape!r}."
            )
        if self.eight_bit not in (None, *quantization.CODES):
            raise ValueError(
                f"Slot {self.name!r}: `eight_bit` must be 'signed', 'unsigned' or None. "
                f"Received: {self.eight_bit!r}."
            )
        if self.eight_bit and self.keeps_digits:
            raise ValueError(
                f"Slot {self.name!r}: `eight_bit` and `keeps_digits` exclude one another. "
                "Leave one of them out."
            )
        is_number = isinstance(self.start, numbers.Real) and not isinstance(self.start, bool)
        is_name = isinstance(self.start, str) and self.start in (VALUE, IDENTITY)
        if not (self.start is None or is_number or is_name):
            raise ValueError(
                f"Slot {self.name!r}: `start` must be a number, 'value' or 'identity'. "
                f"Received: {self.start!r}."
            )
        if self.start is not None and self.initial_value not in (0.0, self.start):
            raise ValueError(
                f"Slot {self.name!r}: `start` and `initial_value` both say what it starts "
                f"from. Received: start={self.start!r}, initial_value={self.initial_value!r}. "
                "Leave `initial_value` out."
            )
        if self.eight_bit and self.first != 0.0:
            given = "initial_value" if self.start is None else "start"
            raise ValueError(
                f"Slot {self.name!r}: a slot with `eight_bit` must start from 0. Received: "
                f"{given}={self.first!r}."
            )

    @property
    def first(self) -> float | str:
        """What it starts from: a number, "value" or "identity"."""
        return self.initial_value if self.start is None else self.start

    def shape_for(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns its shape beside a variable of a shape."""
        if self.every > 1:
            return (-(-math.prod(shape) // self.every),)
        return tuple(shape if self.shape is None else self.shape)

    def sampled(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns those elements of a tensor of the variable's shape that count."""
        return tensor if self.every == 1 else tf.reshape(tensor, [-1])[:: self.every]


def slot_declarations(slots: Iterable[Any]) -> tuple[Slot, ...]:
    """Returns declarations where plain names stand for slots that start at zero.

    Raises:
      TypeError: it is no list of names and declarations.
      ValueError: two of them, or what is kept beside them, have one name.
    """
    valid = isinstance(slots, Iterable) and not isinstance(slots, (str, Mapping))
    listed = list(slots) if valid else []
    if not valid or not all(isinstance(slot, (str, Slot)) for slot in listed):
        hint = f" For one slot write `slots = ({slots!r},)`." if isinstance(slots, str) else ""
        raise TypeError(
            "`slots` must be a tuple of names and of `tko.Slot` objects. Received: "
            f"{slots!r} (of type {type(slots).__name__}).{hint}"
        )
    found = tuple(slot if isinstance(slot, Slot) else Slot(slot) for slot in listed)
    names = [slot.name for slot in found]
    names += [slot.name + STARTED for slot in found if slot.first == VALUE]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(
            f"`slots` must have different names. Received twice: {', '.join(doubled)}"
            f" (beside a slot that starts from 'value' stands one called `..{STARTED}`)."
        )
    return found


def check_starts(slots: Iterable[Slot], shape: tuple[int, ...], title: str, path: str) -> None:
    """Refuses slots of shapes that what they start from cannot have.

    Args:
      slots: the slots of one variable.
      shape: the variable's shape.
      title: the optimizer, for messages.
      path: the variable.

    Raises:
      ValueError: the variable's value has another shape, or a matrix is not square.
    """
    for slot in slots:
        own = slot.shape_for(shape)
        where = f"{title}: slot {slot.name!r} of variable {path!r}, whose shape is {shape},"
        if slot.first == VALUE and slot.shape is not None and own != tuple(shape):
            raise ValueError(
                f"{where} starts from the variable's value and must have its shape. Received: "
                f"shape={own}. Leave `shape` out, or start it from a number."
            )
        if slot.first == IDENTITY and (len(own) < 2 or own[-1] != own[-2]):
            raise ValueError(
                f"{where} starts from an identity matrix, so its last two dimensions must be "
                f"equal. Received: shape {own}. Give it a `shape` that ends so, or declare no "
                "such slot for this variable in `slots_for`."
            )


def first_value(slot: Slot, shape: tuple[int, ...], dtype: tf.DType) -> Callable[[], tf.Tensor]:
    """Returns what gives the value that a slot is made with.

    One that starts from its variable's value is made with zeros.

    Args:
      slot: the slot.
      shape: its shape.
      dtype: its dtype; that of codes is an integer one.
    """
    if slot.first == IDENTITY:
        return lambda: tf.eye(shape[-1], batch_shape=shape[:-2], dtype=dtype)
    number = 0 if dtype.is_integer or slot.first == VALUE else slot.first
    return lambda: _filled(shape, number, dtype)


def scalar_declarations(slots: Iterable[Slot]) -> tuple[Slot, ...]:
    """Returns the declarations of scalars that are carried from step to step.

    Raises:
      ValueError: one of them starts from what no scalar can.
    """
    found = tuple(slots)
    for slot in found:
        if isinstance(slot.first, str):
            raise ValueError(
                f"`step_slots`: {slot.name!r} belongs to no variable and is a scalar, so it "
                f"starts from a number. Received: start={slot.first!r}."
            )
    return found


def _filled(shape: tuple[int, ...], value: Any, dtype: tf.DType) -> tf.Tensor:
    """Returns a tensor of one number; in a graph not as a constant, which would be kept."""
    if tf.executing_eagerly():
        return tf.constant(value, dtype, shape)
    return tf.fill(shape, tf.constant(value, dtype))
