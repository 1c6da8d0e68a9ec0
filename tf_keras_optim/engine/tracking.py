"""An optimizer in TensorFlow's checkpoints.

In the object graph a slot hangs on an edge named by its model variable's place and its own
name, since Keras numbers layers through the life of a process. What the variables were called
and what their weights were stands beside the slots, in a string, and says on restoring which
place is whose.
"""

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine import accumulation, distribution, named_state
from tf_keras_optim.engine import tensorflow_private_tracking as private
from tf_keras_optim.engine.fingerprints import fingerprint
from tf_keras_optim.engine.restoration import MARK, NAMES, Restoration, edge
from tf_keras_optim.engine.store import Store, Tracked


class Tracking(private.AutoTrackable):
    """The part of an optimizer that TensorFlow's checkpoints deal with."""

    _store: Store
    _public: dict[int, Any]
    _restorations: list[Restoration]
    _is_settled: bool  # whether every slot that exists has been offered to them
    _wrap: Callable[[tf.Variable, str], Any]
    built: bool

    def _publish(
        self, name: str, variable: tf.Variable, flat: str | None = None, is_slot: bool = False
    ) -> Any:
        """Gives a state variable its name and its public form.

        What is no slot has this name in checkpoints; it must not be that of a property, as a
        SavedModel of Keras 2 sets it as an attribute when it is loaded.
        """
        name = self._store.unique_name(name)
        with tf.init_scope():
            public = self._wrap(variable, flat or variable.name.split(":")[0])
        self._public[id(variable)] = public
        if is_slot:
            self._is_settled = False
            # As it was named in checkpoints before slots were named by place.
            if private.waiting(self).get(name):
                self._store.awaited.drop(variable)
            private.hand_over(self, name, public)
        else:
            private.track(self, name, public)
        self._store.named[name] = variable
        return public

    def _retire(self, variable: tf.Variable, name: str) -> None:
        """Takes a state variable out of the state."""
        self._store.named.pop(name)
        self._store.starts.pop(id(variable), None)
        self._public.pop(id(variable))
        private.stop_tracking(self, name)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict:
        children = private.children(self, save_type, **kwargs)
        places = {entry.path: place for place, entry in enumerate(self._store.tracked)}
        for key, variable in named_state.collect(self).items():
            if key[0] == "variables":
                children[edge(places[key[1]], key[2])] = self._public[id(variable)]
        return children

    def _lookup_dependency(self, name: str, *cached: Any, **more: Any) -> Any:
        """Returns what hangs on an edge; slots are found when all of them have been named."""
        if name.startswith(MARK):
            return None  # TensorFlow lets them wait
        found = private.looked_up(self, name, *cached, **more)
        if found is None and name in self._store.named:
            # Before places were the names, the edges were variable's path and slot.
            found = self._public[id(self._store.named[name])]
        return found

    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        if self._restorations and not self.built:
            warnings.warn(
                f"{self._title()} was restored from a checkpoint, but has no slots yet, so "  # type: ignore[attr-defined]
                "the checkpoint that is saved now lacks them. Call "
                "`optimizer.build(model.trainable_variables)` first.",
                stacklevel=2,
            )
        return names_tensor(self, lambda entry: entry.variable)

    def _copy_trackable_to_cpu(self, object_map: Any) -> None:
        if self not in object_map:
            object_map[self] = _NamesOfCopies(self, object_map)

    def _restore_from_tensors(self, restored_tensors: Any) -> Any:
        """Restores slots; TensorFlow calls it when every edge has been followed."""
        with tf.init_scope():
            steps = steps_of(restored_tensors[NAMES])
            if not self._restore_slots():
                self._restore_nothing(restored_tensors[NAMES])
            accumulation.restored(self, steps)
        return tf.no_op()

    def _restore_slots(self) -> bool:
        """Gives slots what checkpoints have for them; returns whether there is anything.

        Raises:
          ValueError: a checkpoint is of another model, optimizer or option. No slot is
            changed then.
        """
        positions: dict[int, dict[str, Any]] = {}
        waiting = private.waiting(self)
        for name in [name for name in waiting if name.startswith(MARK)]:
            for position in waiting.pop(name):
                positions.setdefault(id(private.checkpoint_of(position)), {})[name] = position
        for found in positions.values():
            restoration = Restoration(self, found)
            self._drop_waiting()  # type: ignore[attr-defined]
            self._restorations.append(restoration)
            self._is_settled = False
        if self.built and not self._is_settled:
            self._is_settled = True
            given, self._restorations[:] = list(self._restorations), []
            for restoration in given[::-1]:  # the latest counts
                restoration.run()
            self._restorations += [one for one in given if one.positions]
        return bool(positions)

    def _restore_nothing(self, names: tf.Tensor) -> None:
        """Starts again where the checkpoint was written before there were slots."""
        if tf.is_symbolic_tensor(names) or json.loads(names.numpy())["variables"]:
            return
        for key, variable in named_state.collect(self).items():
            if key[0] != "scalars":
                distribution.set_everywhere(variable, self._store.starts[id(variable)]())


def steps_of(names: tf.Tensor) -> int | None:
    """Returns how many calls made an update when a checkpoint was written, if it says so."""
    if tf.is_symbolic_tensor(names):
        return None
    return json.loads(names.numpy()).get(accumulation.STEPS)


def names_tensor(optimizer: Any, variable_of: Any) -> dict[str, tf.Tensor]:
    """Returns the names beside the slots, as a checkpoint's attribute.

    Args:
      optimizer: the optimizer.
      variable_of: returns the variable whose value an entry's weight has, or `None`.
    """
    with tf.init_scope():
        listed = [
            {"path": entry.path, "weight": _weight(entry, variable_of(entry))}
            for entry in optimizer._store.tracked
        ]
        text = json.dumps(
            {
                **named_state.header(optimizer),
                "variables": listed,
            }
        )
    with tf.device("cpu:0"):
        return {NAMES: tf.constant(text)}


def _weight(entry: Tracked, variable: tf.Variable | None) -> dict[str, Any]:
    """Returns a weight's fingerprint, without a sum where its value is not at hand."""
    # Neither in a graph that is saved, whose text stays while values change.
    if variable is not None and tf.executing_eagerly() and _is_near(variable):
        return fingerprint(np.asarray(variable.numpy()))
    shape, dtype = list(entry.variable.shape), entry.variable.dtype.name
    return {"shape": shape, "dtype": dtype, "crc32": None}


def _is_near(variable: tf.Variable) -> bool:
    """Says whether a variable's value is in no parameter server."""
    return tf.DeviceSpec.from_string(variable.device or "").job != "ps"


class _NamesOfCopies(private.Trackable):
    """What stands for an optimizer where copies of all variables are written meanwhile.

    Args:
      optimizer: the optimizer.
      object_map: the copies of variables.
    """

    def __init__(self, optimizer: Any, object_map: Any):
        self._optimizer, self._copies = optimizer, object_map

    def _copied(self, entry: Tracked) -> Any:
        known = [v for v in (entry.variable, entry.public) if v in self._copies]
        return self._copies[known[0]] if known else None

    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        return names_tensor(self._optimizer, self._copied)
