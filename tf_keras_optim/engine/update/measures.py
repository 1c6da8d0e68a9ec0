"""Numbers over all variables: what `measure` gives for each, summed, for `conclude`."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf


def checked(result: Any, title: str) -> dict[str, tf.Tensor]:
    """Returns what a method gave, as 0-d tensors by name.

    Args:
      result: what it returned.
      title: the method, for messages.

    Raises:
      TypeError: it is no mapping from names to numbers.
      ValueError: a number is not 0-d.
    """
    if not isinstance(result, Mapping) or not all(isinstance(name, str) for name in result):
        raise TypeError(
            f"`{title}` must return a dict from names to 0-d tensors. Received: {result!r}."
        )
    found = {name: tf.convert_to_tensor(value) for name, value in result.items()}
    for name, tensor in found.items():
        if not tensor.dtype.is_floating:
            raise TypeError(
                f"`{title}` must return floating-point numbers. Received: {name!r} of dtype "
                f"{tensor.dtype.name}. Convert it by `tf.cast`."
            )
        if not tensor.shape.is_compatible_with([]):
            raise ValueError(
                f"`{title}` must return 0-d tensors. Received: {name!r} with shape "
                f"{tensor.shape}. Sum its elements up."
            )
    return found


def summed(parts: Sequence[Mapping[str, tf.Tensor]], title: str) -> dict[str, tf.Tensor]:
    """Returns the sums over all variables, in float64, so that their order hardly matters.

    Args:
      parts: what `measure` gave for each variable.
      title: the method, for messages.

    Raises:
      ValueError: it gave other names for one variable than for another.
    """
    names = list(parts[0]) if parts else []
    for part in parts:
        if set(part) != set(names):
            raise ValueError(
                f"`{title}` must return the same names for every variable. Received: "
                f"{sorted(names)} for one, {sorted(part)} for another."
            )
    return {
        name: tf.add_n([tf.cast(part[name], tf.float64) for part in parts]) for name in names
    }


def check_hooks(cls: type, base: type, *, is_pure: bool) -> bool:
    """Returns whether a class measures.

    Args:
      cls: the class of an optimizer.
      base: the class whose `measure` and `conclude` do nothing.
      is_pure: whether it updates by an `update`.

    Raises:
      TypeError: one of the two methods would never have an effect.
    """
    own = [
        name
        for name in ("measure", "conclude")
        if getattr(cls, name) is not getattr(base, name)
    ]
    if len(own) == 1:
        other = "conclude" if own == ["measure"] else "measure"
        raise TypeError(
            f"{cls.__name__} overrides `{own[0]}` and not `{other}`: `measure` gives numbers "
            "for each variable, and `conclude` gets their sums. Override both."
        )
    if own and not is_pure:
        raise TypeError(
            f"{cls.__name__} overrides `measure`, which only an algorithm written as `update` "
            "can have; this one has an `update_step`. Leave one of the two out."
        )
    return bool(own)
