"""What is in files of weights and optimizer state, as tables and differences."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.state import layout
from tf_keras_optim.engine.state.saved_arrays import SavedArray
from tf_keras_optim.saving import (
    archives,
    checkpoint_functions,
    damage,
    hdf5,
    reading,
)

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_HEADER = ("name", "shape", "dtype", "bytes", "norm", "NaN", "inf")

_PIECE = 1 << 18  # elements

Arrays = dict[str, SavedArray]


@contextlib.contextmanager
def arrays_of(path: str) -> Iterator[Arrays]:
    """Opens a file; yields the arrays in it by name, which stay there until they are used.

    Args:
      path: a file, or a checkpoint's prefix.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it cannot be read, or an array is not what its checksum says.
    """
    with contextlib.ExitStack() as stack:
        with damage.explained(path, "as weights or state"):
            found = _opened(path, stack)
        yield {name: _naming(path, value) for name, value in found.items()}


def _naming(path: str, value: SavedArray) -> SavedArray:
    """Returns an array whose errors, when it is read, name its file."""

    def pieces() -> Iterator[np.ndarray]:
        with damage.explained(path, "as weights or state"):
            yield from value.pieces()

    return dataclasses.replace(value, pieces=pieces)


def _opened(path: str, stack: contextlib.ExitStack) -> Arrays:
    if checkpoint_functions.is_checkpoint(path):
        return _of_checkpoint(path)
    try:
        file = damage.check_is_file(path, "file")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no file {path!r}, and no checkpoint with this prefix"
        ) from error
    if h5py.is_hdf5(path):
        return _of_hdf5(stack.enter_context(reading.opened_hdf5(file)))
    archive = stack.enter_context(archives.opened(path))
    if reading.WEIGHTS in archive.namelist():
        return _of_hdf5(stack.enter_context(reading.unpacked_weights(archive)))
    return _of_state(*stack.enter_context(reading.opened_state(path)))


def _of_checkpoint(path: str) -> Arrays:
    reader = checkpoint_functions.opened(path)
    types = reader.get_variable_to_dtype_map()
    names = sorted(name for name, dtype in types.items() if dtype != tf.string)
    return {
        name.removesuffix(_VALUE): checkpoint_functions.array(reader, name) for name in names
    }


def _of_hdf5(file: h5py.File) -> Arrays:
    found: Arrays = {}
    for name, item in hdf5.arrays(file):
        value = hdf5.array(file, name)
        if layout.ATTRIBUTE in item.attrs:  # files of ours say what each array is
            value, note = layout.noted(value, item.attrs[layout.ATTRIBUTE], name)
            name += f" ({' '.join(note['key'])})"
        found[name] = value
    return found


def _of_state(state: Any, weights: Any) -> Arrays:
    found = {f"{section}/{name}": v for section in ("scalars", "extra")
             for name, v in state[section].items()}  # fmt: skip
    for variable, slots in state["variables"].items():
        found |= {f"{variable}/{slot}": value for slot, value in slots.items()}
    return found | {f"weights/{name}": value for name, value in weights.items()}


def _floats(value: SavedArray) -> Iterator[np.ndarray]:
    """Yields the elements of an array in float64, in pieces of one size."""
    rest = np.zeros(0)
    for piece in value.pieces():
        for start in range(0, piece.size, _PIECE):
            rest = np.concatenate([rest, piece[start : start + _PIECE].astype(np.float64)])
            if rest.size >= _PIECE:
                yield rest[:_PIECE]
                rest = rest[_PIECE:]
    if rest.size:
        yield rest


def _row(name: str, value: SavedArray) -> tuple[str, ...]:
    """Returns what the table says of an array."""
    squares, nan, inf = 0.0, 0, 0
    for numbers in _floats(value):
        squares += float(np.sum(numbers[np.isfinite(numbers)] ** 2))
        nan += int(np.isnan(numbers).sum())
        inf += int(np.isinf(numbers).sum())
    kind, size = value.dtype.name, str(value.nbytes)
    return (name, str(value.shape), kind, size, f"{np.sqrt(squares):.6g}", str(nan), str(inf))


def table(arrays: Arrays) -> str:
    """Returns a table of arrays: shapes, dtypes, sizes, norms, and what is not finite."""
    rows = [_HEADER, *(_row(name, value) for name, value in arrays.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    total = sum(value.nbytes for value in arrays.values())
    return "\n".join([*lines, f"{len(arrays)} arrays, {total} bytes"])


def differences(first: Arrays, second: Arrays) -> list[str]:
    """Returns a line for each array in which two files differ."""
    lines = [f"only in the first: {name}" for name in first if name not in second]
    lines += [f"only in the second: {name}" for name in second if name not in first]
    for name in first:
        if name in second:
            lines += _compared(name, first[name], second[name])
    return lines


def _compared(name: str, ours: SavedArray, other: SavedArray) -> Iterator[str]:
    if ours.shape != other.shape:
        yield f"{name}: shape {ours.shape} and {other.shape}"
        return
    if ours.dtype != other.dtype:
        yield f"{name}: dtype {ours.dtype.name} and {other.dtype.name}"
    equal, odd, largest = True, 0, 0.0
    for a, b in zip(_floats(ours), _floats(other)):
        with np.errstate(invalid="ignore"):
            distance = np.abs(a - b)
        equal = equal and np.array_equal(a, b, equal_nan=True)
        odd += int(np.sum(~np.isfinite(distance) & ~(np.isnan(a) & np.isnan(b)) & (a != b)))
        largest = np.max(distance[np.isfinite(distance)], initial=largest)
    if not equal:
        more = f", and {odd} not finite" if odd else ""
        yield f"{name}: largest difference {largest:.6g}{more}"
