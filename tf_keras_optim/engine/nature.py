"""What kind of algorithm a class is: how its update is written, and what it says of it."""

from collections.abc import Callable
from typing import Any, TypeVar

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.seen import class_for, class_of

_COMPUTING = ("update", "prepare", "measure", "conclude", "refresh")
_RUNS_UPDATE = "tko_runs_update"
APPLIES = "tko_applies"  # marks a class that has its own way from gradients to variables
_Method = TypeVar("_Method", bound=Callable[..., Any])


def runs_update(method: _Method) -> _Method:
    """Marks the engine's own `update_step`, which runs an `update`."""
    setattr(method, _RUNS_UPDATE, True)
    return method


def has_update(cls: type) -> bool:
    """Whether a class is written as an `update`."""
    return issubclass(cls, Algorithm) and cls.update is not Algorithm.update


def has_own_step(cls: type) -> bool:
    """Whether a class has an `update_step` of its own."""
    step = getattr(cls, "update_step", None)
    return step is not None and not getattr(step, _RUNS_UPDATE, False)


def has_algorithm(cls: type) -> bool:
    """Whether a class says how variables are updated, or applies gradients by itself."""
    return has_update(cls) or has_own_step(cls) or getattr(cls, APPLIES, False)


def is_pure(algorithm: Algorithm) -> bool:
    """Whether an algorithm is an `update`, and not a user-written `update_step`."""
    cls = class_of(algorithm)
    return has_update(cls) and not has_own_step(cls)


def is_elementwise(algorithm: Algorithm) -> bool:
    """Whether `elementwise` was said of the `update` that is in force."""
    said = _said_of_update(algorithm, "elementwise", ("update",))
    return bool(said and said.elementwise)


def counts_updates(algorithm: Algorithm) -> bool:
    """Whether an update depends on how many there were, as far as the algorithm says."""
    said = _said_of_update(algorithm, "counts_updates", _COMPUTING)
    return said is None or said.counts_updates or refreshes(algorithm)


def refreshes(algorithm: Algorithm) -> bool:
    """Whether an algorithm has slots that it refreshes every few updates."""
    return class_for(algorithm, "refresh").refresh is not Algorithm.refresh


def has_evaluated(algorithm: Algorithm) -> bool:
    """Whether an algorithm computes weights for evaluation."""
    return class_for(algorithm, "evaluated").evaluated is not Algorithm.evaluated


def can_fuse(algorithm: Algorithm) -> bool:
    """Whether `update_in_place` was written for the `update` that is in force."""
    said = _said_of_update(algorithm, "update_in_place", _COMPUTING)
    return said is not None and said is not Algorithm and algorithm.fusible


def _said_of_update(algorithm: Algorithm, name: str, methods: tuple[str, ...]) -> Any:
    """Returns the class that has an attribute, if none below it changes the methods."""
    for cls in class_of(algorithm).__mro__ if is_pure(algorithm) else ():
        if name in vars(cls):
            return cls
        if any(method in vars(cls) for method in methods):
            return None
    return None
