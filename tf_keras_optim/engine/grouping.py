"""Which algorithm, with which hyperparameters, updates which variable."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import declarations, group_checks, nature
from tf_keras_optim.engine.groups import MULTIPLIER, OF_GROUPS, checked_multiplier
from tf_keras_optim.engine.hyperparameters import nearest
from tf_keras_optim.engine.options import CommonOptions
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.tensorflow import distribution

RATE = "learning_rate"
BASE = "groups_learning_rate"  # in a configuration: what the rates of groups belong to


@dataclasses.dataclass(frozen=True)
class Group:
    """How the variables of one group are updated.

    Attributes:
      label: the patterns that its variables' paths match; empty where the optimizer's own
        algorithm updates them, with its own hyperparameters.
      algorithm: what computes their updates, and has the hyperparameters.
      multiplier: the factor on their learning rate.
      has_rate: whether the learning rate is that of `algorithm`.
    """

    label: str
    algorithm: Any
    multiplier: float = 1.0
    has_rate: bool = False


@dataclasses.dataclass(frozen=True)
class _Choice:
    """What the patterns say of one variable.

    Attributes:
      label: the patterns that match.
      source: the optimizer whose algorithm it is; `None` where the variable does not move.
      settings: hyperparameters in which it differs from that one.
    """

    label: str
    source: Any
    settings: dict[str, Any]


class Grouping:
    """The groups of an optimizer.

    Args:
      owner: the optimizer.
      seen: the same, as what has options and hooks; see `seen`.
      strategy: the distribution strategy that it was made in.
    """

    def __init__(self, owner: Any, seen: Any, strategy: tf.distribute.Strategy):
        self._owner = owner
        self._seen = seen
        self._strategy = strategy
        self._groups: dict[str, Group] = {}

    def forget(self) -> None:
        """Drops the groups that were made, as settings have changed."""
        self._groups.clear()

    # What is given.

    def check(self) -> None:
        """Refuses settings that no variable could have.

        Raises:
          ValueError: a name is no hyperparameter, one belongs to the whole step, or a value is
            out of range; or an optimizer among them cannot be part of another one.
        """
        given = self._seen.groups
        if not given:
            return
        owner = type(self._owner)
        if not nature.is_pure(self._seen):
            raise ValueError(
                f"{owner.__name__}: argument `groups` needs an algorithm written as `update`; "
                "this one has an `update_step` or applies gradients itself."
            )
        classes = [owner, *(type(s) for s in given.values() if _is_optimizer(s))]
        for pattern, settings in given.items():
            where = f"{owner.__name__}: `groups`[{pattern!r}]"
            if _is_optimizer(settings):
                _check_part(settings, self._owner, where)
                group_checks.check(self._seen, settings, settings, where)
            for name, value in (settings or {}).items() if not _is_optimizer(settings) else ():
                known = [cls for cls in classes if name in declarations.parameters_of(cls)]
                _check_name(name, known[:1] or classes[:1], where)
                if name == MULTIPLIER:
                    checked_multiplier(value, where)
                else:
                    _check_value(known[0], name, value, where)
        self.check_base(self._owner.tko.rate.base)

    def check_base(self, rate: float | None) -> None:
        """Refuses a first learning rate of the optimizer that those of groups cannot follow.

        Args:
          rate: the number; `None` where it is none.

        Raises:
          ValueError: it is 0, and a group has a rate of its own.
        """
        if rate == 0.0 and self.has_own_rates():
            raise ValueError(
                f"{type(self._owner).__name__}: a group has its own learning rate, and the "
                "optimizer's begins at 0. Setting the latter multiplies the former by the same "
                "factor, and from 0 there is no factor. Give the group "
                f"`{MULTIPLIER}` instead, or begin with another rate."
            )

    def has_own_rates(self) -> bool:
        """Says whether a group has a learning rate of its own, beside a multiplier."""
        return any(
            _is_optimizer(settings) or RATE in settings
            for settings in (self._seen.groups or {}).values()
            if settings is not None
        )

    def check_change(self, entries: Any) -> None:
        """Refuses settings with which variables that have slots would be updated otherwise.

        Args:
          entries: the variables that are kept.

        Raises:
          ValueError: one would have another algorithm, or a hyperparameter that its algorithm
            has not, or not move.
        """
        checked: set[str] = set()
        for entry in entries:
            now = self.of(entry.group).algorithm
            choice = self._choice(entry.path)
            if choice.source is not None and type(choice.source) is class_of(now):
                self._check_choice(choice)
                self._check_rows(choice, entry.path)
                others = _others(choice)
                if others and choice.label not in checked:
                    self._made_part(choice, others)
                    checked.add(choice.label)
                continue
            new = "none" if choice.source is None else type(choice.source).__name__
            raise ValueError(
                f"{type(self._owner).__name__}: argument `groups` would give variable "
                f"{entry.path!r} another algorithm ({new}) than it has slots for "
                f"({class_of(now).__name__}). Create a new optimizer, and load the state of "
                "this one by `load_state_dict(state, strict=False)`; to freeze a layer, set "
                "its `trainable`."
            )

    def _check_choice(self, choice: _Choice) -> None:
        """Refuses settings that are none of the algorithm's.

        Raises:
          ValueError: there are such.
        """
        where, cls = self._where(choice), type(choice.source)
        for name, value in choice.settings.items():
            if name != MULTIPLIER:
                _check_name(name, [cls], where)
                _check_value(cls, name, value, where)

    # What follows.

    def freezes(self, path: str) -> bool:
        """Says whether a variable does not move, whatever its gradient."""
        return self._choice(path).source is None

    def group_for(self, path: str) -> Group:
        """Returns the group of a variable that moves.

        Raises:
          ValueError: its settings hold a name that is no hyperparameter of its algorithm.
        """
        choice = self._choice(path)
        self._check_rows(choice, path)
        multiplier = choice.settings.get(MULTIPLIER, 1.0)
        others = _others(choice)
        if choice.source is self._owner and not others:
            return Group("", self._seen, float(multiplier))
        if choice.label not in self._groups:
            self._groups[choice.label] = self._made(choice, others, float(multiplier))
        return self._groups[choice.label]

    def label_of(self, path: str) -> str:
        """Returns the patterns that are found in a path, joined by " + "; "" for none."""
        return self._choice(path).label

    def of(self, label: str) -> Group:
        """Returns a group that was made."""
        return self._groups[label] if label else Group("", self._seen)

    def _choice(self, path: str) -> _Choice:
        source, settings, matching = self._owner, dict[str, Any](), []
        for pattern, given in (self._seen.groups or {}).items():
            if not re.search(pattern, path):
                continue
            matching.append(pattern)
            if isinstance(given, Mapping):
                source = self._owner if source is None else source
                settings |= given
            else:
                source, settings = given, {}
        return _Choice(" + ".join(matching), source, settings)

    def _made(self, choice: _Choice, settings: dict[str, Any], multiplier: float) -> Group:
        source = choice.source
        self._check_choice(choice)
        has_rate = source is not self._owner or RATE in settings
        part = self._made_part(choice, settings) if settings else source
        if part is not self._owner:
            part.tko.join(self._owner, self._owner.tko.title)
        return Group(choice.label, part, multiplier, has_rate)

    def _made_part(self, choice: _Choice, settings: dict[str, Any]) -> Any:
        with distribution.entered(self._strategy):
            part = _part_like(choice.source, settings)
        group_checks.check(self._seen, part, part, self._where(choice))
        return part

    def _check_rows(self, choice: _Choice, path: str) -> None:
        if choice.source is not self._owner:  # for that one its own options are checked
            group_checks.check_rows(self._seen, choice.source, path, self._where(choice))

    def _where(self, choice: _Choice) -> str:
        return f"{type(self._owner).__name__}: group {choice.label!r}"


def _others(choice: _Choice) -> dict[str, Any]:
    """Returns the settings that are hyperparameters of the algorithm."""
    return {name: v for name, v in choice.settings.items() if name != MULTIPLIER}


def _is_optimizer(settings: Any) -> bool:
    return settings is not None and not isinstance(settings, Mapping)


def _check_name(name: str, classes: list[type], where: str) -> None:
    """Refuses a setting that is no hyperparameter, or one of the whole step.

    Raises:
      ValueError: it is none.
    """
    cls = classes[0]
    known = [
        n
        for n in declarations.parameters_of(cls)
        if n in OF_GROUPS or n not in declarations.collected(CommonOptions)
    ]
    if name in known or name == MULTIPLIER:
        return
    if name in declarations.parameters_of(cls):
        raise ValueError(
            f"{where}: `{name}` belongs to the whole step, not to a group. Give it to the "
            "optimizer that has the groups. A group may have: "
            f"{', '.join(known)}, {MULTIPLIER}."
        )
    raise ValueError(
        f"{where}: {cls.__name__} has no hyperparameter {name!r}."
        f"{nearest(name, [*known, MULTIPLIER])} Known: {', '.join(known)}, {MULTIPLIER}."
    )


def _check_value(cls: type, name: str, value: Any, where: str) -> None:
    """Refuses a value that the hyperparameter cannot have.

    Raises:
      ValueError: it is of another kind or out of range.
    """
    parameter = declarations.parameters_of(cls)[name]
    if callable(value) and (parameter.schedulable or name == RATE):
        if name == RATE and not hasattr(value, "get_config"):
            raise ValueError(
                f"{where}: `learning_rate` of a group must be a number or a schedule. "
                f"Received: {value!r}. A callable can be that of the optimizer itself, and "
                f"the group have `{MULTIPLIER}`."
            )
        return
    parameter.check(value, where)


def _check_part(part: Any, owner: Any, where: str) -> None:
    """Refuses an optimizer that cannot be part of another one.

    Raises:
      ValueError: it keeps its variables itself, has options of the whole step, or slots.
    """
    if part is owner or not nature.is_pure(part.tko.context.algorithm):
        raise ValueError(
            f"{where} must be another optimizer, with an algorithm written as `update`. "
            f"Received: {part!r}."
        )
    if part.built:
        raise ValueError(
            f"{where}: {part.tko.title} has slots already, which would not be used. Give a new "
            "one; the optimizer that has the groups keeps the slots."
        )
    for name, parameter in declarations.collected(CommonOptions).items():
        value = getattr(part.tko.context.options, name)
        if name not in OF_GROUPS and value != parameter.default:
            raise ValueError(
                f"{where}: {part.tko.title} has `{name}`={value!r}, which belongs to the whole "
                "step. Give it to the optimizer that has the groups, and leave it out here."
            )
    if part.tko.builder.exclusions:
        raise ValueError(
            f"{where}: {part.tko.title} excludes variables from weight decay. Exclude them in "
            "the optimizer that has the groups, or give them a group with `weight_decay`=0.0."
        )
    source = part.tko.store.rate_source
    if source is not None:
        _check_value(type(part), RATE, source, where)


def like(
    source: Any, settings: Mapping[str, Any] | None = None, without: Collection[str] = ()
) -> Any:
    """Returns a new optimizer with the arguments of another one, the objects among them too.

    Args:
      source: the other one.
      settings: hyperparameters in which the new one differs.
      without: names in the configuration that are left out.
    """
    cls, config = type(source), dict(source.get_config())
    for name in declarations.parameters_of(cls):
        if name in config and name != RATE:
            config[name] = getattr(source, name)  # a schedule itself, not its description
    store = source.tko.store
    config[RATE] = store.rate_source if store.rate is None else float(store.rate.numpy())
    kept = {name: value for name, value in config.items() if name not in without}
    return cls.from_config(kept | dict(settings or {}))


def _part_like(source: Any, settings: Mapping[str, Any]) -> Any:
    """Returns an optimizer like another one, without what belongs to the whole step."""
    of_step = declarations.collected(CommonOptions).keys() - OF_GROUPS
    without = {*of_step, "exclude_from_weight_decay", MULTIPLIER, BASE}
    return like(source, settings, without)


def described(groups: Mapping[str, Any], serialize: Callable[[Any], Any]) -> dict[str, Any]:
    """Returns settings by pattern as a configuration.

    Args:
      groups: the settings.
      serialize: returns the description of a schedule or an optimizer.
    """
    found: dict[str, Any] = {}
    for pattern, settings in groups.items():
        if isinstance(settings, Mapping):
            found[pattern] = {
                n: serialize(v) if callable(v) else v for n, v in settings.items()
            }
        else:
            found[pattern] = None if settings is None else serialize(settings)
    return found


def with_objects(
    groups: Any, schedule: Callable[[Any], Any], optimizer: Callable[[Any], Any]
) -> Any:
    """Returns settings by pattern with the objects that a configuration describes.

    Args:
      groups: what `described` returned; what has another form comes back as it is.
      schedule: returns the schedule of a description.
      optimizer: returns the optimizer of one.
    """
    if not isinstance(groups, Mapping):
        return groups
    found: dict[str, Any] = {}
    for pattern, settings in groups.items():
        if is_description(settings):
            found[pattern] = optimizer(settings)
        elif isinstance(settings, Mapping):
            found[pattern] = {
                n: schedule(v) if is_description(v) else v for n, v in settings.items()
            }
        else:
            found[pattern] = settings
    return found


def is_description(settings: Any) -> bool:
    """Whether settings in a configuration describe an object, and are no hyperparameters."""
    return isinstance(settings, Mapping) and "class_name" in settings and "config" in settings
