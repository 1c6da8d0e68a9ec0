"""Giving slots what TensorFlow's checkpoints have for them, when they are there."""

import json
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import evaluation, late, named_state
from tf_keras_optim.engine.state.restoration import MARK, Restoration
from tf_keras_optim.engine.state.saved_names import steps_of
from tf_keras_optim.engine.state.waiting import Pending
from tf_keras_optim.engine.step import accumulation
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as private


class Restorer:
    """Restores an optimizer from checkpoints.

    Args:
      owner: the optimizer, whose edges TensorFlow has followed.
      context: what its parts share.
      pending: the checkpoints that slots are still to be taken from.

    Attributes:
      unknown: the paths of variables here that the latest checkpoint had no slots for.
      lacking: the slots of the others that it had not, by name.
    """

    def __init__(self, owner: Any, context: Context, pending: Pending):
        self.unknown: list[str] = []
        self.lacking: list[str] = []
        self._owner = owner
        self._context = context
        self._pending = pending
        self._counts: list[tuple[tf.Variable, Any]] = []

    def note_counts(self) -> None:
        """Notes what the slots go by now: TensorFlow may restore the counter before them."""
        if not self._counts:
            self._counts = late.counts(self._context)

    def restore(self, names: tf.Tensor) -> None:
        """Restores slots when every edge has been followed.

        Args:
          names: the names of model variables in the checkpoint.
        """
        with tf.init_scope():
            steps = steps_of(names)
            if not self.restore_slots():
                self._start_again(names)
            # A SavedModel that is written traces this, and nothing is restored here.
            if not tf.is_symbolic_tensor(names):
                accumulation.restored(self._context, steps)

    def restore_slots(self) -> bool:
        """Gives slots what checkpoints have for them; returns whether there is anything.

        Raises:
          ValueError: a checkpoint is of another model, optimizer or option. No slot is
            changed then.
        """
        positions: dict[int, dict[str, Any]] = {}
        waiting = private.waiting(self._owner)
        for name in [name for name in waiting if name.startswith(MARK)]:
            for position in waiting.pop(name):
                positions.setdefault(id(private.checkpoint_of(position)), {})[name] = position
        for found in positions.values():
            restoration = Restoration(self._context, found, self._counts)
            self._pending.drop()
            self._pending.restorations.append(restoration)
            self._context.variables.has_new_slots = True
        self._counts = []
        variables = self._context.variables
        if self._context.store.is_built and variables.has_new_slots:
            variables.has_new_slots = False
            given, self._pending.restorations[:] = list(self._pending.restorations), []
            for restoration in given[::-1]:  # the latest counts
                self.unknown, self.lacking = restoration.run()
            self._pending.restorations += [one for one in given if one.positions]
        return bool(positions)

    def _start_again(self, names: tf.Tensor) -> None:
        """Starts again where the checkpoint was written before there were slots."""
        if tf.is_symbolic_tensor(names) or json.loads(names.numpy())["variables"]:
            return
        evaluation.set_mode(self._context, False)
        for key, variable in named_state.collect(self._context).items():
            if key[0] != "scalars":
                distribution.set_everywhere(
                    variable, self._context.store.starts[id(variable)]()
                )
