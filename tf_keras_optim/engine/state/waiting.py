"""State that came before the slots."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import assigning, layout, named_state
from tf_keras_optim.engine.state import rest as rests
from tf_keras_optim.engine.state.load_report import RATES
from tf_keras_optim.engine.step import accumulation


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
      is_all: whether the arrays are those of all that an optimizer lists, as for `set_weights`,
        and not as files have them.
      before: scalars that were set at once, with the values they had.
    """

    values: layout.Values | None = None
    notes: layout.Notes | None = None
    state: Mapping[str, Any] | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    lenient: bool = False
    skips: bool = False
    is_all: bool = False
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
          guessed: whether names may decide where they leave it open.
        """
        known = guessed or not plan.apart.is_guess
        fits = plan.report.fits or (self.lenient and plan.differs_in_variables_only)
        return known and fits


class Pending:
    """What an optimizer was given before it had the slots for it.

    Args:
      context: what the optimizer's parts share.

    Attributes:
      given: saved state, or `None`.
      restorations: checkpoints that slots are still to be taken from.
      rest: what a state that was loaded has for variables that are not here, or `None`.
    """

    def __init__(self, context: Context):
        self._context = context
        self.given: Waiting | None = None
        self.restorations: list[Any] = []
        self.rest: rests.Rest | None = None

    def drop(self) -> Waiting | None:
        """Forgets what waits; returns the saved state."""
        given, self.given = self.given, None
        self.restorations.clear()
        self.rest = None
        return given

    def take_rest(self) -> None:
        """Loads what is there of a loaded state for variables that came since."""
        if self.rest is not None:
            rests.take(self._context, self.rest)

    def drop_rest(self) -> None:
        """Forgets what was for variables that have not come until the next step."""
        self.rest = None

    def let_wait(self, given: Waiting) -> None:
        """Keeps saved state until the slots exist; sets the scalars that exist already.

        Keras 2 loads an optimizer inside a wrapper twice: what was there before counts.
        """
        dropped = self.drop()
        known = {id(v): value for v, value in dropped.before} if dropped else {}
        if given.state is not None:
            saved = given.state["scalars"]
            keeps_rates = given.options.get("keep_hyperparameters")
            for key, variable in named_state.collect(self._context).items():
                is_kept = keeps_rates and key[1] in RATES
                if key[0] == "scalars" and key[1] in saved and not is_kept:
                    self._set_at_once(given, key[1], variable, known)
        self.given = given

    def _set_at_once(
        self,
        given: Waiting,
        name: str,
        variable: tf.Variable,
        known: Mapping[int, np.ndarray],
    ) -> None:
        assert given.state is not None
        value = np.asarray(given.state["scalars"][name])
        if name == "iterations":
            value = np.asarray(accumulation.calls_here(self._context, given.state, value))
        if value.shape == ():
            given.before.append((variable, known.get(id(variable), variable.numpy())))
            dtype = variable.dtype.as_numpy_dtype
            assigning.assign(self._context, [(variable, value.astype(dtype))])
