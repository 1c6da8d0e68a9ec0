"""State in files, read: what is there is checked first, and stays in the file until used."""

import contextlib
import io
import os
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

import tf_keras_optim.saving.archives as archives
import tf_keras_optim.saving.checkpoint_functions as checkpoint_functions
import tf_keras_optim.saving.checksums as checksums
import tf_keras_optim.saving.damage as damage
import tf_keras_optim.saving.hdf5 as hdf5
from tf_keras_optim.engine.state import evaluation, layout, state_form
from tf_keras_optim.engine.state.fingerprints import fingerprint
from tf_keras_optim.engine.state.saved_arrays import SavedArray
from tf_keras_optim.engine.step import accumulation

MANIFEST = "manifest.json"
WEIGHTS = "model.weights.h5"  # in Keras' archives
_PIECE = 1 << 18  # elements

State = tuple[dict[str, Any], dict[str, SavedArray]]


@contextlib.contextmanager
def opened_state(path: str | os.PathLike) -> Iterator[State]:
    """Opens a file with the state of an optimizer of this package.

    Args:
      path: what `save_state` wrote; a `.keras` or `.weights.h5` file that Keras wrote of a
        model with such an optimizer; or the prefix of a checkpoint that an exported model
        wrote.

    Yields:
      state: a state dict, whose arrays stay in the file until they are turned into arrays.
      weights: the values of model variables that were saved with it, by path, likewise.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or has no such state; it says which and why.
    """
    with contextlib.ExitStack() as stack:
        with damage.explained(path, "as the state of an optimizer"):
            found = _opened(path, stack)
        yield found


def _opened(path: str | os.PathLike, stack: contextlib.ExitStack) -> State:
    if checkpoint_functions.is_checkpoint(path):
        return checkpoint_functions.read(path)
    path = damage.check_is_file(path, "state file")
    if path.name.endswith(".h5"):
        return _from_keras(stack.enter_context(opened_hdf5(path))), {}
    archive = stack.enter_context(archives.opened(path))
    if WEIGHTS in archive.namelist():
        return _from_keras(stack.enter_context(unpacked_weights(archive))), {}
    return _from_archive(archive)


@contextlib.contextmanager
def opened_hdf5(path: pathlib.Path) -> Iterator[h5py.File]:
    """Opens an HDF5 file after checking the checksum after its last byte, if there is one."""
    checksums.verify_line(path)
    with h5py.File(path, "r") as file:
        yield file


@contextlib.contextmanager
def unpacked_weights(archive: zipfile.ZipFile) -> Iterator[h5py.File]:
    """Opens the HDF5 file in one of Keras' archives, unpacked aside."""
    with archives.unpacked(archive, WEIGHTS) as content, h5py.File(content, "r") as file:
        yield file


def _from_keras(file: h5py.File) -> dict[str, Any]:
    """Returns the state that Keras' HDF5 file has of an optimizer of this package."""
    for name in ("optimizer/inner_optimizer/vars", "optimizer/vars"):
        group = hdf5.find(file, name)
        if isinstance(group, h5py.Group):
            values, notes = layout.read(hdf5.Store(group), name)
            if notes and all(note["key"] != ["unused"] for note in notes.values()):
                return layout.to_state(values, notes)
    raise ValueError("the file has no named state of an optimizer of tf_keras_optim")


def _from_archive(archive: zipfile.ZipFile) -> State:
    text = archives.text(archive, MANIFEST, damage.MOST_JSON)
    manifest = damage.json_object(text, MANIFEST)
    if manifest.get("format") != state_form.FORMAT:
        raise ValueError(f"its format is {manifest.get('format')!r}")
    if manifest.get("version") not in range(1, state_form.VERSION + 1):
        raise ValueError(
            f"its version is {manifest.get('version')!r}, and this release reads 1 to "
            f"{state_form.VERSION}"
        )
    state: dict[str, Any] = {
        "format": manifest["format"],
        "version": manifest["version"],
        "class_name": manifest["class_name"],
        accumulation.STEPS: manifest.get(accumulation.STEPS),
        "meanings": manifest.get("meanings") or {},
        "scalars": {},
        "variables": {path: {} for path in manifest["paths"]},
        "extra": {},
        "weights": manifest["weights"],
    }
    if manifest.get(evaluation.EVALUATING):
        state[evaluation.EVALUATING] = True
    values: dict[str, SavedArray] = {}
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


def _array(archive: zipfile.ZipFile, name: str, described: Mapping[str, Any]) -> SavedArray:
    """Returns an array of an archive, after comparing it with its description."""
    info = archives.member(archive, name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"member {name} is compressed")
    with archive.open(name) as file:
        shape, order, dtype = _header(file)
        start = file.tell()
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if order or dtype.hasobject or start + size != info.file_size:
        raise ValueError(f"member {name} has {info.file_size} bytes, declares {size} and more")

    def pieces() -> Iterator[np.ndarray]:
        with archive.open(name) as file:
            file.read(start)
            for first in range(0, max(size // dtype.itemsize, 1), _PIECE):
                count = min(_PIECE, size // dtype.itemsize - first)
                yield np.frombuffer(file.read(count * dtype.itemsize), dtype)
            file.read(1)  # at its end the archive's own checksum is compared

    def read() -> np.ndarray:
        value = np.empty(size // dtype.itemsize, dtype)
        first = 0
        for piece in pieces():
            value[first : first + piece.size] = piece
            first += piece.size
        return value.reshape(shape)

    value = SavedArray(shape, dtype, read, pieces, dtype)
    if described["dtype"] == "bfloat16":
        value = value.view(tf.bfloat16.as_numpy_dtype)
    expected = {part: described[part] for part in ("shape", "dtype", "crc32")}
    if fingerprint(value) != expected:
        raise ValueError(f"member {name} should be {expected}")
    return value


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns shape, whether the order is Fortran's, and dtype from NumPy's header."""
    start = file.read(10)
    if start[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("an array does not begin as NumPy's format 1.0 does")
    header = io.BytesIO(start[8:] + file.read(int.from_bytes(start[8:], "little")))
    return np.lib.format.read_array_header_1_0(header)
