"""Names and sentences that are used for both Kerases."""

import inspect
import re
import sys
from typing import Any

HOW_TO_BIND_TO_KERAS_2 = (
    "For a tf_keras model set the environment variable TF_USE_LEGACY_KERAS=1 before "
    "TensorFlow is imported."
)
HOW_TO_BIND_TO_KERAS_3 = (
    "For a Keras 3 model unset the environment variable TF_USE_LEGACY_KERAS before "
    "TensorFlow is imported."
)


def snake_case(name: str) -> str:
    """Returns "loss_scale_optimizer" for "LossScaleOptimizer", "sgd" for "SGD"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def arguments_of(cls: type) -> frozenset[str]:
    """Returns the names of the arguments that a class' and its bases' `__init__` take."""
    inits = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    return frozenset(
        name
        for init in inits
        if inspect.isfunction(init)
        for name, parameter in inspect.signature(init).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ) - {"self"}


def is_ours(cls: type) -> bool:
    """Says whether a class is one of this package's, and not of a user's."""
    return cls.__module__.split(".")[0] == __name__.split(".")[0]


class Described:
    """What an optimizer shows of itself.

    A Keras of the other generation says of an optimizer that it does not know which one that
    is; in its sentence, and nowhere else, stands how to bind this package to that Keras.
    """

    name: Any
    _other_keras: str  # the top package of the other generation
    _how_to_change: str

    def __repr__(self) -> str:
        return f"<{type(self).__name__} optimizer {self.name!r} of tf_keras_optim>"

    def __format__(self, spec: str) -> str:
        asker = sys._getframe(1).f_globals.get("__name__", "")
        if asker.split(".")[0] != self._other_keras:
            return format(repr(self), spec)
        return f"{self!r}. {self._how_to_change}"
