"""Settings for groups of variables: hyperparameters, or an algorithm, of their own."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.patterns import problem_of

MULTIPLIER = "learning_rate_multiplier"  # the setting that multiplies a group's learning rate
# Options that all optimizers have and a group may have for itself. The others are those of the
# whole step.
OF_GROUPS = frozenset({"learning_rate", "weight_decay", "decoupled_weight_decay"})

_FACTOR = Hyperparameter(1.0, minimum=0.0)
_FACTOR.name = MULTIPLIER


class ReadOnly(dict):
    """A dict that is assigned as a whole."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "The settings of groups are checked together, so they are not changed one by one. "
            "Assign all of them: `optimizer.groups = {**optimizer.groups, pattern: settings}`."
        )

    __setitem__ = __delitem__ = __ior__ = _refuse  # type: ignore[assignment]
    update = pop = popitem = clear = setdefault = _refuse  # type: ignore[assignment]

    def __reduce__(self) -> tuple:
        return type(self), (dict(self),)


class Groups(Hyperparameter):
    """A dict from patterns of variables' paths to settings."""

    def __init__(self, doc: str = "") -> None:
        super().__init__(None, kind=dict, keyword_only=True, doc=doc)

    def check(self, value: Any, owner: str) -> ReadOnly | None:
        """Returns the settings by pattern; values of hyperparameters are not looked at."""
        if value is None:
            return None
        problem = (
            problem_of(value) or _problem_of_settings(value)
            if isinstance(value, Mapping)
            else "it is no dict"
        )
        if problem:
            raise ValueError(
                f"{owner}: argument `{self.name}` must be a dict from regular expressions, "
                "searched in a variable's path, to settings: a dict of hyperparameters, an "
                "optimizer of tf_keras_optim, or None for variables that do not move. "
                f"Received: {self.name}={value!r} ({problem})."
            )
        return ReadOnly({
            pattern: ReadOnly(settings) if isinstance(settings, Mapping) else settings
            for pattern, settings in value.items()
        })  # fmt: skip

    def patterns(self, value: Any) -> Sequence[str]:
        """Returns the regular expressions in a value."""
        return list(value or ())


def _problem_of_settings(groups: Mapping[str, Any]) -> str:
    """Returns what is wrong with the first bad settings, or an empty text."""
    for pattern, settings in groups.items():
        if settings is None or isinstance(settings, (Mapping, Algorithm)):
            continue
        text = f"that of {pattern!r} is {settings!r}"
        if hasattr(settings, "inner_optimizer"):
            return f"{text}; give the optimizer inside, and wrap the one that has the groups"
        if hasattr(settings, "apply_gradients"):
            return f"{text}; make it one of this package by `tf_keras_optim.convert`"
        return text
    return ""


def checked_multiplier(value: Any, owner: str) -> float:
    """Returns the factor on the learning rate that settings hold.

    Raises:
      ValueError: it is no number of at least 0.
    """
    return float(_FACTOR.check(value, owner))
