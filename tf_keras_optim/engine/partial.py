"""What becomes of a saved state that belongs to other model variables, in part."""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from tf_keras_optim.engine.matching import Match

_MOST_NAMES = 3


@dataclasses.dataclass(frozen=True)
class Apart:
    """The model variables that one side alone has.

    Attributes:
      new: paths here of which nothing was saved.
      gone: saved paths that are not here: frozen since, say.
      is_all: whether nothing else is missing or left over.
      is_sure: whether it is known which variables are which.
      is_guess: whether names that repeat are all that says so.
    """

    new: tuple[str, ...]
    gone: tuple[str, ...]
    is_all: bool
    is_sure: bool
    is_guess: bool


def apart(
    found: Match, missing: Sequence[tuple[str, ...]], surplus: Sequence[tuple[str, ...]]
) -> Apart:
    """Returns the model variables that one side alone has.

    Args:
      found: which saved variable is which one here.
      missing: keys of the state here that were not saved.
      surplus: saved keys that are not here.
    """
    known = set(found.paths.values())

    def of_new(key: tuple[str, ...]) -> bool:
        return key[0] == "variables" and key[1] not in known

    def of_gone(key: tuple[str, ...]) -> bool:
        return key[0] == "variables" and found.paths.get(key[1], key[1]) is None

    return Apart(
        tuple(dict.fromkeys(key[1] for key in missing if of_new(key))),
        tuple(dict.fromkeys(key[1] for key in surplus if of_gone(key))),
        all(map(of_new, missing)) and all(map(of_gone, surplus)),
        found.is_sure,
        found.is_guess,
    )


def tell(title: str, found: Apart) -> None:
    """Writes one line to the log.

    Args:
      title: the optimizer that has loaded its part.
      found: what it has not loaded.
    """
    parts = []
    if found.gone:
        parts.append(f"was left out for {_listed(found.gone)}, frozen or not here")
    if found.new:
        parts.append(f"has nothing for {_listed(found.new)}")
    tf.get_logger().info("%s: the saved state %s.", title, ", and ".join(parts))


def _listed(paths: Sequence[str]) -> str:
    names = ", ".join(map(repr, paths[:_MOST_NAMES]))
    more = f", and {len(paths) - _MOST_NAMES} more" if len(paths) > _MOST_NAMES else ""
    return f"{len(paths)} variable{'s' * (len(paths) > 1)} ({names}{more})"
