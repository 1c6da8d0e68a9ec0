"""State dicts in files: a zip archive of NumPy arrays with a manifest, without pickle.

The archive has one uncompressed member `N.npy` for each array and `manifest.json`, which
says what each is. Every member carries the CRC-32 of its bytes, which is checked.
"""

import io
import json
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

import tf_keras_optim.saving.atomic as atomic
import tf_keras_optim.saving.checkpoint_functions as checkpoint_functions
from tf_keras_optim.engine import layout, named_state

_MANIFEST = "manifest.json"
_MOST_MANIFEST = 1 << 28  # bytes
# What damaged files make the readers raise.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    OSError,
    OverflowError,
    tf.errors.OpError,
    NotImplementedError,
    RuntimeError,
)


def write_state(
    path: str | os.PathLike,
    state: Mapping[str, Any],
    weights: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a state dict to a file, whole or not at all.

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
            members.append({"key": list(key), **named_state.fingerprint(value)})
            with archive.open(f"{number}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _plain(key, value), allow_pickle=False)
        manifest = {
            "format": named_state.FORMAT,
            "version": named_state.VERSION,
            "class_name": state.get("class_name"),
            "paths": list(state["variables"]),
            "weights": state.get("weights", {}),
            "arrays": members,
        }
        archive.writestr(_MANIFEST, json.dumps(manifest))


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


def read_state(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads the state of an optimizer of this package from a file.

    Args:
      path: what `save_state` wrote; a `.keras` or `.weights.h5` file that Keras wrote of a
        model with such an optimizer; or the prefix of a checkpoint that an exported model
        wrote.

    Returns:
      state: a state dict.
      weights: the values of model variables that were saved with it, by path.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or has no such state; it says which and why.
    """
    path = pathlib.Path(path)
    is_checkpoint = checkpoint_functions.is_checkpoint(path)
    if not is_checkpoint and not path.is_file():
        raise FileNotFoundError(f"There is no state file {str(path)!r}.")
    try:
        if is_checkpoint:
            return checkpoint_functions.read(path)
        if path.name.endswith(".h5"):
            with h5py.File(path, "r") as file:
                return _from_keras(file), {}
        with zipfile.ZipFile(path) as archive:
            if "model.weights.h5" in archive.namelist():
                with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
                    return _from_keras(file), {}
            return _from_archive(archive)
    except _DAMAGE as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as the state of an optimizer "
            f"({type(error).__name__}: {error}). It is damaged, or another kind of file; "
            "nothing was loaded. Use an earlier one."
        ) from error


def _from_keras(file: h5py.File) -> dict[str, Any]:
    """Returns the state that Keras' HDF5 file has of an optimizer of this package."""
    for name in ("optimizer/inner_optimizer/vars", "optimizer/vars"):
        if name in file:
            values, notes = layout.read(file[name], name)
            if notes and all(note["key"] != ["unused"] for note in notes.values()):
                return layout.to_state(values, notes)
    raise ValueError("the file has no named state of an optimizer of tf_keras_optim")


def _from_archive(
    archive: zipfile.ZipFile,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if _MANIFEST not in archive.namelist():
        raise ValueError(f"no {_MANIFEST} in it, but {archive.namelist()[:5]}")
    if archive.getinfo(_MANIFEST).file_size > _MOST_MANIFEST:
        raise ValueError(f"{_MANIFEST} is larger than {_MOST_MANIFEST} bytes")
    manifest = json.loads(_member(archive, _MANIFEST))
    if manifest.get("format") != named_state.FORMAT:
        raise ValueError(f"its format is {manifest.get('format')!r}")
    if manifest.get("version") not in range(1, named_state.VERSION + 1):
        raise ValueError(
            f"its version is {manifest.get('version')!r}, and this release reads 1 to "
            f"{named_state.VERSION}"
        )
    state: dict[str, Any] = {
        "format": manifest["format"],
        "version": manifest["version"],
        "class_name": manifest["class_name"],
        "scalars": {},
        "variables": {path: {} for path in manifest["paths"]},
        "extra": {},
        "weights": manifest["weights"],
    }
    values: dict[str, np.ndarray] = {}
    for number, described in enumerate(manifest["arrays"]):
        value = _array(archive, f"{number}.npy", described)
        section, *key = described["key"]
        if section == "values":
            values[key[0]] = value
        elif section == "variables":
            state["variables"][key[0]][key[1]] = value
        else:
            state[section][key[0]] = value
    return state, values


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Returns a member's bytes after checking them."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"member {name} is compressed")
    return archive.read(name)


def _array(archive: zipfile.ZipFile, name: str, described: Mapping[str, Any]) -> np.ndarray:
    value = np.lib.format.read_array(io.BytesIO(_member(archive, name)), allow_pickle=False)
    if described["dtype"] == "bfloat16":
        value = value.view(tf.bfloat16.as_numpy_dtype)
    expected = {part: described[part] for part in ("shape", "dtype", "crc32")}
    if named_state.fingerprint(value) != expected:
        raise ValueError(f"member {name} should be {expected}")
    return value
