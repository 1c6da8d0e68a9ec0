"""HDF5 files from anywhere: only arrays of the file itself, and only what it really holds."""

import math
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from tf_keras_optim.engine.state.saved_arrays import SavedArray

_PIECE = 1 << 20  # bytes
_FLOOR = 1 << 26  # bytes; smaller compressed arrays may unpack as they like
_MOST_EXPANSION = 100
_FILTERS = (1, 2, 3, 32000)  # gzip, shuffle, checksums, lzf; others load libraries


class Store:
    """The arrays of a group, as Keras' stores offer them; each stays in the file until read.

    Args:
      group: the group.
    """

    def __init__(self, group: h5py.Group):
        self.group = group

    def keys(self) -> list[str]:
        """Returns the names."""
        return list(self.group)

    def __getitem__(self, name: str) -> SavedArray:
        return array(self.group, name)


def find(group: h5py.Group, place: str) -> Any:
    """Returns the group or array at a place below a group, or `None`.

    Raises:
      ValueError: a link on the way leads elsewhere, perhaps into another file.
    """
    for part in filter(None, place.split("/")):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{place!r} is a {type(link).__name__}, and none is followed")
        group = group[part]
    return group


def array(group: h5py.Group, name: str) -> SavedArray:
    """Returns an array of numbers of this file.

    Raises:
      KeyError: there is none.
      ValueError: it is no array of numbers, stands in another file, or declares more than is
        stored.
    """
    found = find(group, name)
    if found is None:
        raise KeyError(name)
    _check(found, name)
    return SavedArray(
        tuple(found.shape),
        found.dtype,
        lambda: np.asarray(found[()]),
        lambda: _pieces(found),
        found.dtype,
    )


def arrays(group: h5py.Group, prefix: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """Yields every array below a group with its place; they are checked.

    Raises:
      ValueError: as `array`.
    """
    for name in group:
        place = f"{prefix}{name}"
        item = find(group, name)
        if isinstance(item, h5py.Group):
            if place.count("/") > 100:
                raise ValueError(f"{place[:200]!r}... is nested too deeply")
            yield from arrays(item, f"{place}/")
        elif isinstance(item, h5py.Dataset):
            yield place, item


def _check(found: Any, name: str) -> None:
    """Checks that something is an array of numbers which the file really holds."""
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise ValueError(f"{name!r} is no array of this file")
    if found.external or found.is_virtual:
        raise ValueError(f"{name!r} is no array of this file: its numbers stand in others")
    if found.dtype.kind not in "biufV" or found.dtype.hasobject or found.dtype.names:
        raise ValueError(f"{name!r} has dtype {found.dtype}, which are no numbers")
    declared = math.prod(found.shape) * found.dtype.itemsize
    stored = found.id.get_storage_size()
    sizes = f"{name!r} declares {declared} bytes, and {stored} are stored"
    if found.chunks is None:
        if declared != stored:
            raise ValueError(sizes)
        return
    chunk = math.prod(found.chunks) * found.dtype.itemsize
    if declared > max(_FLOOR, _MOST_EXPANSION * stored) or chunk > _FLOOR:
        raise ValueError(sizes)
    plist = found.id.get_create_plist()
    used = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if not set(used) <= set(_FILTERS):
        raise ValueError(f"{name!r} needs the HDF5 filters {used}; known: {_FILTERS}")


def _pieces(found: h5py.Dataset, prefix: tuple[int, ...] = ()) -> Iterator[np.ndarray]:
    shape = found.shape[len(prefix) :]
    size = math.prod(shape) * found.dtype.itemsize
    if not shape or size <= _PIECE:
        yield np.asarray(found[prefix or ()]).reshape(-1)
        return
    row = size // shape[0]
    if row > _PIECE:
        for i in range(shape[0]):
            yield from _pieces(found, (*prefix, i))
        return
    step = _PIECE // row
    for start in range(0, shape[0], step):
        yield np.asarray(found[(*prefix, slice(start, start + step))]).reshape(-1)
