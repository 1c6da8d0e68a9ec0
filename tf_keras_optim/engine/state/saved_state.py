"""Handing an optimizer's state out and taking it in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import (
    assigning,
    evaluation,
    inventory,
    layout,
    named_state,
    resetting,
    skipping,
    state_form,
)
from tf_keras_optim.engine.state.by_name import StateByName
from tf_keras_optim.engine.state.load_report import LoadReport
from tf_keras_optim.engine.state.numbered import NumberedState
from tf_keras_optim.engine.state.restorer import Restorer
from tf_keras_optim.engine.state.waiting import Pending, Waiting
from tf_keras_optim.engine.step import accumulation


class SavedState:
    """The state of an optimizer by name, and as Keras numbers it.

    State that arrives before the slots exist waits until `build` has made them, save for
    the counters and the loss scale, which the first step needs before that.

    Args:
      owner: the optimizer, on which checkpoints find what is no slot.
      context: what its parts share.

    Attributes:
      pending: what waits for its slots.
      restorer: restores from checkpoints of TensorFlow.
    """

    def __init__(self, owner: Any, context: Context):
        self._context = context
        self.pending = Pending(context)
        self.restorer = Restorer(owner, context, self.pending)
        self._named = StateByName(context, self.pending)
        self._numbered = NumberedState(context, self.pending)

    def arrays(self) -> list[np.ndarray]:
        """Returns the state as NumPy arrays, in the order in which Keras lists it."""
        if self._context.store.is_built:
            self.load_pending(force=True)
        return [variable.numpy() for variable in inventory.listed(self._context)]

    def set_arrays(self, arrays: Sequence[np.ndarray]) -> None:
        """Sets the state from arrays in the order in which Keras lists it.

        Raises:
          ValueError: the optimizer is not built, or the number or a shape differs.
            Nothing is changed then.
        """
        if not self._context.store.is_built:
            raise ValueError(
                f"{self._context.title} has no slots yet. Call "
                "`optimizer.build(trainable_variables)` before `set_weights(weights)`."
            )
        listed = inventory.listed(self._context)
        if not self._context.store.tracked and len(arrays) > len(listed):
            # Keras 3 builds the optimizer of an HDF5 file with no variable.
            values = {str(i): array for i, array in enumerate(arrays)}
            self.pending.let_wait(Waiting(values, is_all=True))
            return
        self._numbered.assign_all(arrays)
        self.pending.drop()

    def reset(self) -> None:
        """Puts the state back to where a new optimizer's would be; also in a graph."""
        self.pending.drop()
        resetting.reset(self._context)

    # By name.

    def to_dict(self) -> dict[str, Any]:
        """Returns the whole state by name, as `state_dict` documents it."""
        self.check_restored()
        state, given = named_state.to_dict(self._context), self.pending.given
        if given is None:
            return state
        if given.state is None or given.values is not None:
            raise ValueError(
                f"{self._context.title} waits for its slots, and what was loaded from Keras' "
                "file does not name all variables. Call "
                "`optimizer.build(model.trainable_variables)` first."
            )
        scalars = dict(given.state["scalars"]) | state["scalars"]
        counted = {accumulation.STEPS: state[accumulation.STEPS]}
        return dict(given.state) | {"scalars": scalars} | counted

    def load_dict(
        self,
        state: Mapping[str, Any],
        strict: bool,
        keep_hyperparameters: bool,
        names: Mapping[str, str] | Callable[[str], str] | None,
    ) -> LoadReport:
        """Takes over a state by name, as `load_state_dict` documents it."""
        title = self._context.title
        state_form.check_form(state, title)
        if not self._context.store.is_built and not strict:
            raise ValueError(
                f"{title} has no slots yet, so what fits cannot be told. Call "
                "`optimizer.build(trainable_variables)` before "
                "`load_state_dict(state, strict=False)`."
            )
        options = {"keep_hyperparameters": keep_hyperparameters, "names": names}
        return self._named.take(Waiting(state=state, options=options), strict)

    def check_restored(self) -> None:
        """Takes over what waits; slots in a checkpoint cannot come before `build`.

        Raises:
          ValueError: there are such, and the optimizer is not built.
        """
        if self._context.store.is_built:
            self.load_pending(force=True)
        elif self.pending.restorations:
            raise ValueError(
                f"{self._context.title} was restored from a checkpoint, but has no slots yet, "
                "so what is saved now would lack them. Call "
                "`optimizer.build(model.trainable_variables)` first."
            )

    # As Keras numbers it.

    def numbered(self) -> tuple[layout.Values, layout.Notes]:
        """Returns the state as numbered arrays, what Keras lacks by name, and the notes."""
        self.check_restored()
        given = self.pending.given
        if given is None:
            return layout.arranged(self._context)
        if given.values is None:
            raise ValueError(
                f"{self._context.title} waits for its slots and cannot be saved in Keras' "
                "format. Call `optimizer.build(model.trainable_variables)` first."
            )
        return given.values, given.notes or {}

    def load_layout(self, values: layout.Values, notes: layout.Notes) -> None:
        """Takes over numbered arrays; those that carry notes by name.

        Raises:
          ValueError: the saved state is not what this optimizer keeps. Nothing is changed
            then.
        """
        if not any(map(str.isdigit, values)):
            return
        if not notes:
            self._numbered.load(values)
            return
        state = layout.to_state(values, notes)
        skips = skipping.mismatches_are_skipped()
        self._named.take(Waiting(values, notes, state, lenient=True, skips=skips), patient=True)

    # State that came before the slots.

    def load_pending(self, force: bool = False) -> None:
        """Loads waiting state as soon as every variable it belongs to exists.

        Args:
          force: load it now; if there are other variables, raise.
        """
        if self._context.variables.has_new_slots:
            self.restorer.restore_slots()
        with tf.init_scope():
            self.pending.take_rest()
        given = self.pending.given
        if given is None or not (force or self._is_complete_for(given)):
            return
        self.pending.drop()
        with tf.init_scope():
            if given.state is None:
                self._numbered.take(given)
                return
            try:
                self._named.take(given)
            except ValueError:
                assigning.assign(self._context, given.before)
                raise

    def waits_with_evaluation(self) -> bool | None:
        """Says whether what waits was saved with the weights for evaluation in place.

        Nothing is loaded for that, as a property is read by whoever lists attributes.

        Returns:
          `None` where nothing waits that says so.
        """
        given = self.pending.given
        if given is None or given.state is None:
            return None
        return bool(given.state.get(evaluation.EVALUATING))

    def check_weights(self) -> None:
        """Takes over what waits, so that it is known which weights the variables hold.

        Raises:
          ValueError: a checkpoint waits, of which that is not known before `build`.
        """
        if self._context.store.is_built:
            self.load_pending(force=True)
        elif self.pending.restorations:
            raise ValueError(
                f"{self._context.title} was restored from a checkpoint, but has no slots yet, "
                "so which weights the variables hold is not known. Call "
                "`optimizer.build(model.trainable_variables)` first."
            )

    def _is_complete_for(self, given: Waiting) -> bool:
        """Whether there are as many state variables as arrays wait."""
        known = given.state is not None
        by_place = inventory.listed if given.is_all else inventory.positional
        here = named_state.collect if known else by_place
        has_rate = self._context.store.rate is not None
        return len(here(self._context)) - (has_rate and given.lacks_rate) == given.size
