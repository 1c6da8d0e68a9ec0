"""State that came before the slots."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine import layout, named_state


@dataclasses.dataclass
class Waiting:
    """State that came before the slots.

    Attributes:
      values: arrays as Keras numbers them, `None` if they came by name.
      notes: what is known about each of them.
      state: the state dict, `None` if nothing is known about them.
      options: further arguments for `plan`.
      lenient: whether model variables may be missing or left over, as in Keras' own files.
      skips: whether what does not fit is left out, with a warning.
      before: scalars that were set at once, with the values they had.
    """

    values: layout.Values | None = None
    notes: layout.Notes | None = None
    state: Mapping[str, Any] | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    lenient: bool = False
    skips: bool = False
    before: list[tuple[tf.Variable, np.ndarray]] = dataclasses.field(default_factory=list)

    @property
    def size(self) -> int:
        """The number of arrays."""
        if self.state is not None:
            return len(named_state.flat(self.state))
        return sum(map(str.isdigit, self.values or ()))

    @property
    def lacks_rate(self) -> bool:
        """Whether it was saved by name, without a learning rate."""
        return self.state is not None and "learning_rate" not in self.state["scalars"]

    def accepts(self, plan: named_state.Plan, guessed: bool = False) -> bool:
        """Says whether the state fits an optimizer well enough.

        Args:
          plan: what would be assigned.
          guessed: whether names may decide that variables of other layers have too.
        """
        if plan.report.fits:
            return True
        known = guessed or not plan.apart.is_guess
        return self.lenient and known and plan.differs_in_variables_only
