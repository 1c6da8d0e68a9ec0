"""What Keras and users call to build an optimizer."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.methods.state import State
from tf_keras_optim.engine.methods.tracking import Tracking
from tf_keras_optim.engine.methods.views import Views


class Building(Views, State, Tracking):
    """The methods of an optimizer that make its slots."""

    @property
    def built(self) -> bool:
        """Whether the optimizer has its slots."""
        return self.tko.store.is_built

    @built.setter
    def built(self, value: bool) -> None:
        self.tko.store.is_built = bool(value)

    @tf.autograph.experimental.do_not_convert
    def build(self, variables: Iterable[Any]) -> None:
        """Makes the slots of variables that have none yet.

        It may be called again with more variables (after unfreezing layers): existing
        slots keep their values, and new ones start fresh.

        Args:
          variables: the trainable variables, in model order. Variables without a
            floating-point dtype (a layer's counter) are skipped: they have no gradient.

        Raises:
          TypeError: `variables` is not a list of variables.
          ValueError: a variable has no static shape, or belongs to another distribution
            strategy; or a pattern in an argument matches no variable.
        """
        self.tko.builder.build(variables, is_all=type(self).build is Building.build)
