"""The numbers of one step that an algorithm sees."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf


class Scalars:
    """The numbers that a rule sees at one step, by name.

    Always there: `learning_rate` and `step` (counted from 1), 0-d tensors of the
    variable's compute dtype. Then every declared hyperparameter: as the Python
    number it was given, so that `1 - scalars.beta_2` is exact. Last, whatever the
    rule's own `prepare` returned.
    """

    def __init__(self, static: Mapping[str, Any], dynamic: Mapping[str, tf.Tensor]):
        self.__dict__.update(static)
        self.__dict__.update(dynamic)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"The scalars of this step have no {name!r}. They have: "
            f"{', '.join(sorted(self.__dict__))}. Declare it as a `tko.Hyperparameter`, "
            "or return it from `prepare` or `conclude`."
        )
