"""State dicts in files: a zip archive of NumPy arrays with a manifest, without pickle.

The archive has one uncompressed member `N.npy` for each array and `manifest.json`, which
says what each is. Every member carries the CRC-32 of its bytes, which is checked.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim.saving.atomic as atomic
import tf_keras_optim.saving.reading as reading
from tf_keras_optim.engine.state import evaluation, named_state, state_form
from tf_keras_optim.engine.state.fingerprints import fingerprint
from tf_keras_optim.engine.step import accumulation


def write_state(
    path: str | os.PathLike,
    state: Mapping[str, Any],
    weights: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a state dict to a file atomically.

    Args:
      path: the file; its directory must exist. A file that is there is replaced.
      state: what `state_dict` returned.
      weights: values of model variables by path, to be kept with the state.

    Raises:
      ValueError: an array is none of numbers.
    """
    arrays = dict(named_state.flat(state))
    arrays |= {("values", name): np.asarray(value) for name, value in (weights or {}).items()}
    members = []
    with (
        atomic.replaced(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for number, (key, value) in enumerate(arrays.items()):
            members.append({"key": list(key), **fingerprint(value)})
            with archive.open(f"{number}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _plain(key, value), allow_pickle=False)
        manifest = {
            "format": state_form.FORMAT,
            "version": state_form.VERSION,
            "class_name": state.get("class_name"),
            "meanings": state.get("meanings") or {},
            accumulation.STEPS: state.get(accumulation.STEPS),
            evaluation.EVALUATING: state.get(evaluation.EVALUATING, False),
            "paths": list(state["variables"]),
            "weights": state.get("weights", {}),
            "arrays": members,
        }
        archive.writestr(reading.MANIFEST, json.dumps(manifest))


def _plain(key: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    """Returns an array of a dtype that NumPy's format knows."""
    if value.dtype == tf.bfloat16.as_numpy_dtype:
        return value.view(np.uint16)
    if value.dtype.kind not in "biuf":
        raise ValueError(
            f"State {' '.join(key)} has dtype {value.dtype}, which a state file cannot hold. "
            "Expected numbers."
        )
    return value
