"""What becomes of a saved state that belongs to other model variables, in part."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.state.matching import Match

MASTER = "master"
SCALE = ("scalars", "dynamic_scale")
_OF_SCALE = ("dynamic_scale", "step_counter", "skipped_steps", "consecutive_skips")
_MOST_NAMES = 3


@dataclasses.dataclass(frozen=True)
class Apart:
    """The model variables that one side alone has.

    Attributes:
      new: paths here of which nothing was saved.
      gone: saved paths that are not here: frozen since, say.
      scale: "new" or "gone" where one side alone has a loss scale, else empty.
      recast: paths here whose variables were saved in another dtype.
      is_all: whether nothing else is missing or left over.
      is_sure: whether it is known which variables are which.
      is_guess: whether names that repeat are all that says so.
    """

    new: tuple[str, ...]
    gone: tuple[str, ...]
    scale: str
    recast: frozenset[str]
    is_all: bool
    is_sure: bool
    is_guess: bool


def apart(
    found: Match,
    missing: Sequence[tuple[str, ...]],
    surplus: Sequence[tuple[str, ...]],
    recast: Collection[str] = (),
) -> Apart:
    """Returns the model variables that one side alone has.

    Args:
      found: which saved variable is which one here.
      missing: keys of the state here that were not saved.
      surplus: saved keys that are not here.
      recast: paths here whose variables were saved in another dtype.
    """
    known = set(found.paths.values())
    alone = [kind for kind, keys in (("new", missing), ("gone", surplus)) if SCALE in keys]

    def of_policy(key: tuple[str, ...]) -> bool:
        """Whether it comes or goes with a dtype policy: a loss scale, a master copy."""
        if key[0] == "scalars":
            return bool(alone) and key[1] in _OF_SCALE
        return key[0] == "variables" and key[-1] == MASTER and key[1] in recast

    def of_new(key: tuple[str, ...]) -> bool:
        return key[0] == "variables" and key[1] not in known

    def of_gone(key: tuple[str, ...]) -> bool:
        return key[0] == "variables" and found.paths.get(key[1], key[1]) is None

    return Apart(
        tuple(dict.fromkeys(key[1] for key in missing if of_new(key))),
        tuple(dict.fromkeys(key[1] for key in surplus if of_gone(key))),
        alone[0] if alone else "",
        frozenset(recast),
        all(of_new(key) or of_policy(key) for key in missing)
        and all(of_gone(key) or of_policy(key) for key in surplus),
        found.is_sure,
        found.is_guess,
    )


def recast(
    entries: Sequence[Any], weights: Mapping[str, Mapping[str, Any]], found: Match
) -> set[str]:
    """Returns the paths of the variables here that were saved in another dtype.

    Args:
      entries: the variables here.
      weights: fingerprints of the saved ones, by their paths.
      found: which saved variable is which one here.
    """
    known = {
        here: weights[name]["dtype"] for name, here in found.paths.items() if name in weights
    }
    here = {entry.path: entry.variable.dtype.name for entry in entries}
    return {path for path, dtype in here.items() if known.get(path, dtype) != dtype}


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
    if found.scale:
        parts.append("has no loss scale" if found.scale == "new" else "has a loss scale more")
    if found.recast:
        parts.append(f"is of another dtype for {_listed(sorted(found.recast))}")
    tf.get_logger().info("%s: the saved state %s.", title, ", and ".join(parts))


def tell_taken(title: str, paths: Sequence[str]) -> None:
    """Writes one line to the log.

    Args:
      title: the optimizer that has loaded the rest of a saved state.
      paths: the variables that were made after it was loaded.
    """
    tf.get_logger().info(
        "%s: what the saved state has for %s is loaded now, before their first update.",
        title,
        _listed(paths),
    )


def _listed(paths: Sequence[str]) -> str:
    names = ", ".join(map(repr, paths[:_MOST_NAMES]))
    more = f", and {len(paths) - _MOST_NAMES} more" if len(paths) > _MOST_NAMES else ""
    return f"{len(paths)} variable{'s' * (len(paths) > 1)} ({names}{more})"
