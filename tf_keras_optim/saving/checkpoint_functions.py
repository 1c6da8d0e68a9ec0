"""Weights and state to and from a checkpoint, by TensorFlow operations alone.

The checkpoint has the format of TensorFlow. Each tensor's name says what it is, and one more
tensor, the manifest, says which optimizer it belongs to.
"""

import glob
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim.saving.damage as damage
from tf_keras_optim.engine.state import evaluation, late, named_state, state_form
from tf_keras_optim.engine.state.saved_arrays import SavedArray
from tf_keras_optim.engine.step import accumulation

MANIFEST = "tf_keras_optim"
STEPS = "tf_keras_optim_calls"  # how many calls make an update; earlier versions wrote none
_FILES = ("index", "data-*")


class Functions:
    """The functions that write and read the checkpoint.

    Args:
      optimizer: the optimizer whose state is kept.
      weights: model variables by path.
      others: further variables by name, the state of random generators say.
    """

    def __init__(
        self,
        optimizer: Any,
        weights: Mapping[str, tf.Variable],
        others: Mapping[str, tf.Variable],
    ):
        store = optimizer.tko.store
        keys = named_state.collect(optimizer.tko.context, evaluating=True)
        if store.evaluating is not None:
            others = {**others, evaluation.EVALUATING: store.evaluating}
        self._variables = {json.dumps(list(key)): v for key, v in keys.items()}
        self._variables |= {json.dumps(["values", n]): v for n, v in weights.items()}
        self._variables |= {json.dumps(["others", n]): v for n, v in others.items()}
        tracked, begun = optimizer.tko.store.tracked, late.of(optimizer.tko.context)
        manifest = {
            "format": state_form.FORMAT,
            "version": state_form.VERSION,
            "class_name": type(optimizer).__name__,
            "paths": [entry.path for entry in tracked],
        }
        if begun:  # the steps are traced for these
            manifest["begun"] = [begun.get(id(e), late.Beginning()).update for e in tracked]
        self._manifest = json.dumps(manifest)
        self._steps = optimizer.tko.store.counted_by

    def save(self, path: tf.Tensor) -> dict[str, tf.Tensor]:
        """Writes the checkpoint at a prefix, a 0-d string; returns it."""
        tensors = [variable.read_value() for variable in self._variables.values()]
        names = [*self._variables, MANIFEST, STEPS]
        written = tf.raw_ops.SaveV2(
            prefix=path,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[*tensors, tf.constant(self._manifest), tf.constant(self._steps)],
        )
        with tf.control_dependencies([written]):
            return {"path": tf.identity(path)}

    def restore(self, path: tf.Tensor) -> dict[str, tf.Tensor]:
        """Reads the checkpoint at a prefix; checks all of it before anything is assigned."""
        variables = list(self._variables.values())
        names = [*self._variables, MANIFEST]
        *tensors, manifest = tf.raw_ops.RestoreV2(
            prefix=path,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            dtypes=[*(variable.dtype for variable in variables), tf.string],
        )
        message = "The checkpoint is of another optimizer or model. Its manifest:"
        checks = [tf.debugging.Assert(tf.equal(manifest, self._manifest), [message, manifest])]
        for variable, tensor in zip(variables, tensors):
            same = tf.reduce_all(tf.equal(tf.shape(tensor), variable.shape))
            text = f"{variable.name} has shape {variable.shape}; the checkpoint's tensor has"
            checks.append(tf.debugging.Assert(same, [text, tf.shape(tensor)]))
        with tf.control_dependencies(checks):
            for variable, tensor in zip(variables, tensors):
                variable.assign(tf.reshape(tensor, variable.shape))
        return {"path": tf.identity(path)}


def is_checkpoint(path: Any) -> bool:
    """Says whether there is a checkpoint of TensorFlow's at a prefix."""
    return bool(tf.io.gfile.exists(f"{path}.index"))


def opened(path: Any) -> Any:
    """Returns TensorFlow's reader of a checkpoint at a prefix, after looking at its files.

    Raises:
      ValueError: one of them is no plain file, or a tensor declares more than they hold.
      tf.errors.OpError: it is damaged.
    """
    held = 0
    for file in tf.io.gfile.glob([f"{glob.escape(str(path))}.{end}" for end in _FILES]):
        if os.path.exists(file):  # else it is on another file system than the machine's
            damage.check_is_file(file, "checkpoint")
        held += tf.io.gfile.stat(file).length
    reader = tf.train.load_checkpoint(str(path))
    types = reader.get_variable_to_dtype_map()
    for name, shape in reader.get_variable_to_shape_map().items():
        size = math.prod(shape) * max(types[name].size, 0)
        if size > held:
            raise ValueError(f"tensor {name!r} declares {size} bytes, the files have {held}")
    return reader


def array(reader: Any, name: str) -> SavedArray:
    """Returns a tensor of a checkpoint, which stays there until it is read."""
    shape = tuple(reader.get_variable_to_shape_map()[name])
    dtype = np.dtype(reader.get_variable_to_dtype_map()[name].as_numpy_dtype)

    def read() -> np.ndarray:
        return np.asarray(reader.get_tensor(name))

    return SavedArray(shape, dtype, read, lambda: iter([read().reshape(-1)]), dtype)


def read(path: Any) -> tuple[dict[str, Any], dict[str, SavedArray]]:
    """Reads what `save` wrote; the arrays are checked, and stay there until they are used.

    Args:
      path: the prefix.

    Returns:
      state: a state dict.
      weights: the values of model variables by path.

    Raises:
      ValueError: it is another checkpoint.
      tf.errors.OpError: it is damaged.
    """
    reader = opened(path)
    names = reader.get_variable_to_shape_map()
    if MANIFEST not in names:
        raise ValueError("the checkpoint was not written by an exported model")
    manifest = damage.json_object(reader.get_tensor(MANIFEST), "its manifest")
    state: dict[str, Any] = {
        **{key: manifest[key] for key in ("format", "version", "class_name")},
        "scalars": {},
        "variables": {path: {} for path in manifest["paths"]},
        "extra": {},
        "weights": {},
    }
    if STEPS in names:
        state[accumulation.STEPS] = int(reader.get_tensor(STEPS))
    values: dict[str, SavedArray] = {}
    for name in names:
        if name in (MANIFEST, STEPS):
            continue
        section, *key = json.loads(name)
        reader.get_tensor(name)  # TensorFlow compares its checksum
        value = array(reader, name)
        if section == "values":
            values[key[0]] = value
        elif section == "variables":
            state["variables"][key[0]][key[1]] = value
        elif section != "others":
            state[section][key[0]] = value
    mark = json.dumps(["others", evaluation.EVALUATING])
    if mark in names and reader.get_tensor(mark):
        state[evaluation.EVALUATING] = True
    else:  # what was kept the last time that other weights were in place
        for slots in state["variables"].values():
            slots.pop(evaluation.TRAINING, None)
    return state, values
