"""The paths of model variables, by which their state is named."""

import itertools
from collections.abc import Iterable
from typing import Any


def path_of(variable: Any) -> str:
    """Returns a variable's path, e.g. "dense/kernel", without TensorFlow's ":0"."""
    path = getattr(variable, "path", None) or variable.name
    return str(path).split(":")[0]


def unique_paths(paths: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Returns paths of which none is there twice: the later ones get a number.

    Such a number never makes a name that another variable has of its own.

    Args:
      paths: the variables' own names.
      taken: names that cannot be given again.
    """
    paths, used = list(paths), set(taken)
    own, unique = set(paths), []
    for path in paths:
        numbers = (f"{path}_{n}" for n in itertools.count(1))
        free = (name for name in numbers if name not in used and name not in own)
        unique.append(path if path not in used else next(free))
        used.add(unique[-1])
    return unique


def by_path(variables: Iterable[Any] | None) -> dict[str, Any]:
    """Returns variables by path; what has the same path gets a number."""
    found = list(variables or ())
    return dict(zip(unique_paths(map(path_of, found)), found))
