"""Names of options and hooks that a class of a user's has for itself.

A class that was written for Keras' base knows the names of Keras alone. What it calls as this
package calls an option or a hook is its own, a plain attribute, and the engine goes by the
default. This is found out when the class is made; a class without such names has no part in it.
"""

import dataclasses
import dis
import inspect
import types
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from tf_keras_optim.engine import nature
from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.seen import Seen, owns
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as tracking

_OF_UPDATE = frozenset(
    {
        "conclude", "corrected", "counts_updates", "decays_in_update", "draws_noise",
        "elementwise", "evaluated", "fusible", "measure", "needs_master_weights", "prepare",
        "refresh", "refresh_every", "refresh_first", "refresh_spread", "step_slots", "trained",
        "update_in_place",
    }
)  # fmt: skip
"""Hooks that have a meaning for an algorithm that is written as `update` alone."""

_METHODS = {
    "conclude": 2, "evaluated": 2, "measure": 4, "options_for": 1, "prepare": 1,
    "refresh": 3, "slots_for": 1, "slots_of": 1, "trained": 2, "traits_of": 2, "update": 4,
    "update_in_place": 4,
}  # fmt: skip
"""Hooks that are methods, with the number of their arguments."""

_VALUES: Mapping[str, Any] = {
    "corrected": (tuple, list),
    "counts_updates": (bool,),
    "decays_in_update": (bool,),
    "draws_noise": (bool,),
    "elementwise": (bool,),
    "fusible": (bool,),
    "needs_master_weights": (bool,),
    "refresh_every": (int, type(None), Hyperparameter),
    "refresh_first": (int, type(None), Hyperparameter),
    "refresh_spread": (bool, Hyperparameter),
    "slot_meanings": (Mapping,),
    "slots": (tuple, list, str),
    "step_slots": (tuple, list),
}
"""Hooks that are attributes or properties, with their classes."""

_HOOKS = _METHODS.keys() | _VALUES.keys()
_SHOWN = ("current_learning_rate", "jit_compile_used", "skipped_steps", "trace_count")
"""Properties that are there to be read, and that no method of this package reads."""
_FACTOR = "learning_rate_multiplier"


@dataclasses.dataclass(frozen=True)
class OwnNames:
    """The names that a class has for itself.

    Attributes:
      options: options whose names are attributes of a class of the user's.
      unless_given: options whose names are its own where they are not handed on to `__init__`.
      hooks: names of hooks.
      users: the classes of the user's.
    """

    options: frozenset[str] = frozenset()
    unless_given: frozenset[str] = frozenset()
    hooks: frozenset[str] = frozenset()
    users: frozenset[type] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.options or self.unless_given or self.hooks)

    def seen(self, owner: Any, values: Mapping[str, Any], given: Set[str]) -> Any:
        """Returns what the engine is to see of an optimizer.

        Args:
          owner: the optimizer.
          values: all options by name.
          given: the names of those that were handed on to `__init__`.
        """
        names = self.options | (self.unless_given - given)
        if not (names or self.hooks):
            return owner
        return Seen(owner, {n: values[n] for n in names}, self.hooks, self.users)


class OwnUnlessGiven:
    """An option whose name a class has for itself, where it is not handed on to `__init__`.

    Args:
      option: the option.
    """

    def __init__(self, option: Hyperparameter):
        self._option = option

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self._option
        found = tracking.attributes(instance)
        if self._option.name in found:
            return found[self._option.name]
        seen = self._seen(instance)
        if owns(seen, self._option.name):
            return seen.tko_options[self._option.name]
        return self._option.__get__(instance, owner)

    def __set__(self, instance: Any, value: Any) -> None:
        seen = self._seen(instance)
        if seen is None or owns(seen, self._option.name):
            tracking.attributes(instance)[self._option.name] = value
        else:
            tracking.attributes(instance).pop(self._option.name, None)
            self._option.__set__(instance, value)

    def __delete__(self, instance: Any) -> None:
        found = tracking.attributes(instance)
        if self._option.name not in found:
            raise AttributeError(self._option.name)
        del found[self._option.name]

    def _seen(self, instance: Any) -> Any:
        """Returns what the engine sees of the optimizer; `None` before it is initialized."""
        parts = tracking.attributes(instance).get("tko")
        return None if parts is None else parts.context.options


class Yielding:
    """A property of this package in whose place an attribute can be set.

    Args:
      read: the property.
    """

    def __init__(self, read: property):
        self._read = read
        self.__doc__ = read.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self._read.__get__(instance, owner)


def find(
    cls: type, users: Sequence[type], options: Mapping[str, Hyperparameter], applies: bool
) -> OwnNames:
    """Finds the names that a class has for itself, and makes them attributes of its own.

    Args:
      cls: the class.
      users: itself, and those above it that are neither this package's nor Keras'.
      options: the options that the running Keras does not have.
      applies: whether it overrides what leads from gradients to variables.

    Raises:
      TypeError: of a name it cannot be told whose it is.
    """
    by_keras = not any(_fits("update", vars(user).get("update")) for user in users) and (
        applies or nature.has_own_step(cls)
    )
    assigned = dict(_assigned(users, options.keys() | _HOOKS | {*_SHOWN}))
    kinds = {n: [type(vars(u)[n]) for u in users if n in vars(u)] for n in options}
    redeclared = {n for n in options if any(issubclass(k, Hyperparameter) for k in kinds[n])}
    ours = Hyperparameter | OwnUnlessGiven
    shadowed = frozenset(n for n in options if any(not issubclass(k, ours) for k in kinds[n]))
    names = _named(users)
    named = frozenset(names & options.keys()) - shadowed - redeclared
    if by_keras:
        _check_assigned(assigned, options.keys() - shadowed - named - redeclared)
    for name in shadowed:
        if isinstance(inspect.getattr_static(cls, name), ours):
            setattr(cls, name, next(vars(u)[name] for u in users if name in vars(u)))
    for name in named:
        setattr(cls, name, OwnUnlessGiven(options[name]))
    hooks = _hooks(cls, users, assigned) if by_keras else frozenset()
    for name in ((hooks | {*_SHOWN}) & assigned.keys()) | ({_FACTOR} & names):
        found = inspect.getattr_static(cls, name, None)
        owner = next((c for c in cls.__mro__ if name in vars(c)), None)
        if isinstance(found, property) and owner not in users:
            setattr(cls, name, Yielding(found))
    return OwnNames(shadowed, named, hooks, frozenset(users))


def _named(users: Sequence[type]) -> set[str]:
    """Returns the names of annotations and of the parameters of `__init__`."""
    found: set[str] = set()
    for user in users:
        found |= inspect.get_annotations(user).keys()
        init = vars(user).get("__init__")
        if inspect.isfunction(init):
            parameters = inspect.signature(init).parameters.values()
            found |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    return found


def _check_assigned(assigned: Mapping[str, str], options: Set[str]) -> None:
    for name in assigned.keys() & options:
        raise TypeError(
            f"{assigned[name]} sets `self.{name}`, which is an option of every optimizer of "
            "tf_keras_optim and of none of Keras', so it cannot be told whose it is. For an "
            f"attribute of the class' own, declare it: `{name}` as a parameter of `__init__`, "
            f"or `{name}: Any` in the body of the class. For the option, hand it on: "
            f"`super().__init__({name}=...)`."
        )


def _hooks(cls: type, users: Sequence[type], assigned: Mapping[str, str]) -> frozenset[str]:
    """Returns the names of hooks that a class has for itself.

    Raises:
      TypeError: an `update` of this package is run, which would call what has the name.
    """
    declared = {n: vars(u)[n] for u in reversed(users) for n in _HOOKS & vars(u).keys()}
    runs_update = nature.has_update(cls) and not nature.has_own_step(cls)
    if not runs_update:
        other = {n for n, value in declared.items() if not _fits(n, value)}
        return frozenset((other | (_OF_UPDATE & declared.keys()) | assigned.keys()) & _HOOKS)
    for name in _HOOKS & (declared.keys() | assigned.keys()):
        if name in assigned or not _fits(name, declared[name]):
            base = next(c for c in cls.__mro__ if c not in users)
            raise TypeError(
                f"{assigned.get(name, cls.__name__)} has `{name}`, which is a hook of "
                f"tf_keras_optim that the `update` of {base.__name__} uses, and here is "
                "something else. Give it another name; see `tko.Optimizer` for the hook."
            )
    return frozenset()


def _fits(name: str, value: Any) -> bool:
    """Whether what stands in a class under the name of a hook can be that hook."""
    if isinstance(value, Yielding):
        return True
    if name in _VALUES:
        return isinstance(value, (property, *_VALUES[name]))
    if not inspect.isfunction(value):
        return False
    try:
        inspect.signature(value).bind(*range(1 + _METHODS[name]))
    except TypeError:
        return False
    return True


def _assigned(users: Sequence[type], names: Set[str]) -> Iterator[tuple[str, str]]:
    """Yields the names among some that methods set on `self`, each with the method."""
    for user in users:
        for value in vars(user).values():
            parts = (value.fget, value.fset) if isinstance(value, property) else (value,)
            for function in filter(inspect.isfunction, parts):
                if names & {*function.__code__.co_names}:
                    for name in _set_by(function.__code__) & names:
                        yield name, f"{user.__name__}.{function.__name__}"


def _set_by(code: types.CodeType) -> set[str]:
    """Returns the names of the attributes that a function sets on its first argument."""
    found, before = set(), None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_ATTR" and code.co_argcount and before is not None:
            # Python 3.13 loads two variables at once.
            loaded = before.argval if isinstance(before.argval, tuple) else (before.argval,)
            if before.opname.startswith("LOAD") and loaded[-1] == code.co_varnames[0]:
                found.add(instruction.argval)
        before = instruction
    return found
