"""Slots that an algorithm computes anew every few updates: when, and for one variable."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.numerics import precision, quantization
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.state import lookahead
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution, placement
from tf_keras_optim.engine.update import purity
from tf_keras_optim.engine.update.kernels import Scalars, read_before, without_slow
from tf_keras_optim.engine.variable_hooks import REFRESHES


@dataclasses.dataclass(frozen=True)
class Pace:
    """After which updates of a variable its slots are refreshed.

    Attributes:
      every: the number of updates from one time to the next.
      first: the update after which they are refreshed first, from 1.
      shift: by how many updates all further times are later.
    """

    every: int
    first: int
    shift: int = 0

    def due(self, update: tf.Tensor) -> tf.Tensor:
        """Says whether that is so after an update of a number, 0-d int64, from 1."""
        since = update - self.first
        due = tf.logical_and(since >= 0, tf.equal(since % self.every, self.shift))
        return tf.logical_or(due, tf.equal(since, 0)) if self.shift else due


def check_hooks(cls: type, base: type, *, is_pure: bool) -> bool:
    """Returns whether a class refreshes slots.

    Args:
      cls: the class of an optimizer.
      base: the class whose `refresh` does nothing.
      is_pure: whether it updates by an `update`.

    Raises:
      TypeError: what it overrides would never have an effect.
    """
    name = cls.__name__
    has_method, has_number = (
        getattr(cls, n) is not getattr(base, n) for n in ("refresh", "refresh_every")
    )
    if has_method and not has_number:
        raise TypeError(
            f"{name} overrides `refresh` and not `refresh_every`, so it would never be run. "
            "Say after how many updates it is run: `refresh_every = 10`, or a property."
        )
    if has_number and not has_method:
        raise TypeError(
            f"{name} overrides `refresh_every` and not `refresh`, which is what is run so "
            "often. Override both."
        )
    if has_method and not is_pure:
        raise TypeError(
            f"{name} overrides `refresh`, which only an algorithm written as `update` can "
            "have; this one has an `update_step`. Leave one of the two out."
        )
    return has_method


def is_for(algorithm: Algorithm, traits: Mapping[str, Any]) -> bool:
    """Says whether an algorithm has slots to refresh of a variable.

    Args:
      algorithm: the algorithm, with a `refresh`.
      traits: what it says of the variable.

    Raises:
      ValueError: that is no bool.
    """
    said = traits.get(REFRESHES, True)
    if not isinstance(said, bool):
        raise ValueError(
            f"{class_of(algorithm).__name__}.options_for: `{REFRESHES}` must be a bool. "
            f"Received: {said!r}. Say whether `refresh` is run for the variable."
        )
    return said


def pace_of(algorithm: Algorithm, place: int) -> Pace | None:
    """Returns after which updates an algorithm refreshes the slots of a variable, if ever.

    Args:
      algorithm: the algorithm.
      place: the variable's place in the model.

    Raises:
      ValueError: what the algorithm says is no number of updates.
    """
    every = _number(algorithm, "refresh_every")
    if every is None:
        return None
    first = _number(algorithm, "refresh_first")
    shift = place % every if algorithm.refresh_spread else 0
    return Pace(every, every if first is None else first, shift)


def _number(algorithm: Algorithm, name: str) -> int | None:
    value = getattr(algorithm, name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(
        f"{class_of(algorithm).__name__}: `{name}` must be an integer, at least 1, or None. "
        f"Received: {value!r}. It is a number of updates."
    )


def refresh(
    algorithm: Algorithm,
    entry: VariableState,
    static: Mapping[str, Any],
    dynamic: Mapping[str, tf.Tensor],
) -> None:
    """Gives slots of one variable the values that an algorithm computes anew.

    All of them, or, where an element is not finite, none.

    Args:
      algorithm: whose `refresh` is run.
      entry: the variable.
      static: the hyperparameters, and what the algorithm says of this variable.
      dynamic: the scalars of this step, in the dtype of the arithmetic.
    """
    variable = distribution.local(entry.variable)
    slots = {name: distribution.local(slot) for name, slot in entry.slots.items()}
    scales = {name: distribution.local(scale) for name, scale in entry.scales.items()}
    beside = {} if entry.master is None else {"master": distribution.local(entry.master)}
    scalars = Scalars({**static, "compiled": distribution.in_xla()}, dynamic)
    with placement.beside(variable):
        value, before = read_before(variable, slots, scales, beside, scalars)
        before = {name: tf.cast(slot, entry.dtype) for name, slot in before.items()}
        own = without_slow(before)[0] if lookahead.SLOW in before else before
        with purity.watched(algorithm, "refresh"):
            result = algorithm.refresh(value, own, scalars)
        new = checked(result, own, f"{class_of(algorithm).__name__}.refresh")
        if not new:
            return
        finite = [tf.reduce_all(tf.math.is_finite(tensor)) for tensor in new.values()]
        taken = tf.reduce_all(tf.stack(finite))
        for name, tensor in new.items():
            slot, scale = slots[name], scales.get(name)
            if scale is None:
                kept = precision.stored(tensor, slot.dtype, None)
            else:
                kept, scale_of = quantization.encoded(tensor, slot.dtype)
                scale.assign(tf.where(taken, scale_of, scale.read_value()))
            slot.assign(tf.where(taken, kept, slot.read_value()))


def checked(result: Any, before: Mapping[str, tf.Tensor], title: str) -> dict[str, tf.Tensor]:
    """Returns what `refresh` gave, after refusing what it must not give.

    Args:
      result: what it returned.
      before: the slots before, by name.
      title: the method, for messages.

    Raises:
      TypeError: it is no mapping from names to floating tensors.
      ValueError: there is no such slot, or it has another shape.
    """
    if not isinstance(result, Mapping):
        raise TypeError(
            f"`{title}` must return a dict from names of slots to their new values. "
            f"Received: {result!r}."
        )
    found = {}
    for name, value in result.items():
        if name not in before:
            raise ValueError(
                f"`{title}` returned {name!r}, which is no slot of this variable. It has: "
                f"{', '.join(sorted(before)) or 'none'}. Return the new values of slots alone."
            )
        tensor = tf.convert_to_tensor(value)
        if not tensor.dtype.is_floating:
            raise TypeError(
                f"`{title}` must return floating tensors. Received: {name!r} of dtype "
                f"{tensor.dtype.name}. Convert it by `tf.cast`."
            )
        if not tensor.shape.is_compatible_with(before[name].shape):
            raise ValueError(
                f"`{title}` must return a value of {name!r} with shape {before[name].shape}. "
                f"Received: shape {tensor.shape}."
            )
        found[name] = tensor
    return found
