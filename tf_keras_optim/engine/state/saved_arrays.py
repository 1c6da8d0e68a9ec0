"""Arrays that stay in their file until they are read, one at a time."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class SavedArray:
    """An array in a file, which NumPy reads when it is turned into an array.

    Attributes:
      shape: its shape.
      dtype: the dtype it is read as.
      read: returns it whole, in any dtype.
      pieces: yields its elements in order, as flat arrays of a few megabytes at most, in the
        dtype in which the file has them.
      stored: the dtype in which the file has it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    pieces: Callable[[], Iterator[np.ndarray]]
    stored: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        value = self.read().astype(self.dtype, copy=False)
        return value if dtype is None else value.astype(dtype, copy=False)

    def __int__(self) -> int:
        return int(self.__array__())

    def __float__(self) -> float:
        return float(self.__array__())

    def astype(self, dtype: Any, copy: bool = True) -> "SavedArray":
        """Returns the same array, to be converted to a dtype after it has been read."""
        return dataclasses.replace(self, dtype=np.dtype(dtype))

    def view(self, dtype: Any) -> "SavedArray":
        """Returns an array of the same bytes and shape in another dtype of the same size."""
        dtype = np.dtype(dtype)

        def pieces() -> Iterator[np.ndarray]:
            return (piece.view(dtype) for piece in self.pieces())

        def read() -> np.ndarray:
            return self.read().view(dtype)

        return SavedArray(self.shape, dtype, read, pieces, dtype)


def named(value: Any, dtype: Any) -> Any:
    """Returns an array whose dtype NumPy could not name, bfloat16 from HDF5, in a dtype."""
    dtype = np.dtype(dtype)
    unknown = value.dtype.kind == "V" and value.dtype.itemsize == dtype.itemsize
    return value.view(dtype) if unknown else value


def kept(value: Any) -> Any:
    """Returns an array as it is if it stays in its file, anything else as a NumPy array."""
    return value if isinstance(value, SavedArray) else np.asarray(value)


def in_memory(value: Any) -> Any:
    """Returns arrays, and dicts with arrays in them, read from their file."""
    if isinstance(value, dict):
        return {key: in_memory(item) for key, item in value.items()}
    return np.asarray(value) if isinstance(value, SavedArray) else value
