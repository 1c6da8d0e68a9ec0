"""An optimizer in TensorFlow's checkpoints.

In the object graph a slot hangs on an edge named by its model variable's place and its own
name, since Keras numbers layers through the life of a process. What the variables were called
and what their weights were stands beside the slots, in a string, and says on restoring which
place is whose.
"""

import warnings
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.composed import Composed
from tf_keras_optim.engine.state import evaluation, named_state
from tf_keras_optim.engine.state.restoration import MARK, NAMES, edge
from tf_keras_optim.engine.state.saved_names import NamesOfCopies, names_tensor
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as private


class Tracking(Composed):
    """The part of an optimizer that TensorFlow's checkpoints deal with."""

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict:
        children = private.children(self, save_type, **kwargs)
        places = {entry.path: place for place, entry in enumerate(self.tko.store.tracked)}
        for key, variable in named_state.collect(self.tko.context).items():
            if key[0] == "variables":
                public = self.tko.variables.public.get(id(variable), variable)
                children[edge(places[key[1]], key[2])] = public
        if save_type != "checkpoint" and self.tko.store.evaluating is not None:
            trained = evaluation.kept(self.tko.context)
            children[evaluation.EVALUATING] = self.tko.store.evaluating
            children |= {
                edge(places[path], evaluation.TRAINING): v for path, v in trained.items()
            }
        return children

    def _lookup_dependency(self, name: str, *cached: Any, **more: Any) -> Any:
        """Returns what hangs on an edge; slots are found when all of them have been named."""
        if name.startswith(MARK):
            self.tko.state.restorer.note_counts()
            return None  # TensorFlow lets them wait
        found = private.looked_up(self, name, *cached, **more)
        if found is None and name in self.tko.store.named:
            # Before places were the names, the edges were variable's path and slot.
            found = self.tko.variables.public[id(self.tko.store.named[name])]
        return found

    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        if self.tko.state.pending.restorations and not self.tko.store.is_built:
            warnings.warn(
                f"{self.tko.title} was restored from a checkpoint, but has no slots yet, so "
                "the checkpoint that is saved now lacks them. Call "
                "`optimizer.build(model.trainable_variables)` first.",
                stacklevel=2,
            )
        return names_tensor(self.tko.context, lambda entry: entry.variable)

    def _copy_trackable_to_cpu(self, object_map: Any) -> None:
        if self not in object_map:
            object_map[self] = NamesOfCopies(self.tko.context, object_map)

    def _restore_from_tensors(self, restored_tensors: Any) -> Any:
        """Restores slots; TensorFlow calls it when every edge has been followed."""
        self.tko.state.restorer.restore(restored_tensors[NAMES])
        return tf.no_op()
