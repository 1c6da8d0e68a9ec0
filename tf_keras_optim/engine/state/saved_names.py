"""The names of model variables, as they stand in a checkpoint beside their slots."""

import json
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import named_state
from tf_keras_optim.engine.state.fingerprints import fingerprint
from tf_keras_optim.engine.state.restoration import NAMES
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step import accumulation
from tf_keras_optim.engine.tensorflow import tensorflow_private_tracking as private


def steps_of(names: tf.Tensor) -> int | None:
    """Returns how many calls made an update when a checkpoint was written, if it says so."""
    if tf.is_symbolic_tensor(names):
        return None
    return json.loads(names.numpy()).get(accumulation.STEPS)


def names_tensor(context: Context, variable_of: Any) -> dict[str, tf.Tensor]:
    """Returns the names beside the slots, as a checkpoint's attribute.

    Args:
      context: what the optimizer's parts share.
      variable_of: returns the variable whose value an entry's weight has, or `None`.
    """
    with tf.init_scope():
        listed = [
            {"path": entry.path, "weight": _weight(entry, variable_of(entry))}
            for entry in context.store.tracked
        ]
        text = json.dumps(
            {
                **named_state.header(context),
                "variables": listed,
            }
        )
    with tf.device("cpu:0"):
        return {NAMES: tf.constant(text)}


def _weight(entry: VariableState, variable: tf.Variable | None) -> dict[str, Any]:
    """Returns a weight's fingerprint, without a sum where its value is not at hand."""
    # Neither in a graph that is saved, whose text stays while values change.
    if variable is not None and tf.executing_eagerly() and _is_near(variable):
        return fingerprint(np.asarray(variable.numpy()))
    shape, dtype = list(entry.variable.shape), entry.variable.dtype.name
    return {"shape": shape, "dtype": dtype, "crc32": None}


def _is_near(variable: tf.Variable) -> bool:
    """Says whether a variable's value is in no parameter server."""
    return tf.DeviceSpec.from_string(variable.device or "").job != "ps"


class NamesOfCopies(private.Trackable):
    """What stands for an optimizer where copies of all variables are written meanwhile.

    Args:
      context: what the optimizer's parts share.
      object_map: the copies of variables.
    """

    def __init__(self, context: Context, object_map: Any):
        self._context, self._copies = context, object_map

    def _copied(self, entry: VariableState) -> Any:
        known = [v for v in (entry.variable, entry.public) if v in self._copies]
        return self._copies[known[0]] if known else None

    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        return names_tensor(self._context, self._copied)
