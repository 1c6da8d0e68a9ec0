"""Variables that get their values back: where something fails on the way, or in any case."""

import contextlib
import io
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import numpy as np

_IN_MEMORY = 1 << 24  # bytes; more is kept in a temporary file


@contextlib.contextmanager
def unless_complete(variables: Iterable[Any]) -> Iterator[None]:
    """Puts variables back to what they are now if the block raises.

    Args:
      variables: variables of numbers, of Keras or TensorFlow; one may be listed twice.
    """
    with _kept(variables) as put_back:
        try:
            yield
        except BaseException:
            put_back()
            raise


@contextlib.contextmanager
def in_any_case(variables: Iterable[Any]) -> Iterator[None]:
    """Puts variables back to what they are now when the block ends, however it ends.

    Args:
      variables: as for `unless_complete`.
    """
    with _kept(variables) as put_back:
        try:
            yield
        finally:
            put_back()


@contextlib.contextmanager
def _kept(variables: Iterable[Any]) -> Iterator[Callable[[], None]]:
    """Keeps the values of variables; yields what puts them back."""
    kept = list({id(variable): variable for variable in variables}.values())
    with _storage(kept) as file:
        for variable in kept:
            value = np.ascontiguousarray(variable.numpy())
            file.write(value.reshape(-1).view(np.uint8).data)

        def put_back() -> None:
            file.seek(0)
            for variable in kept:
                dtype = _dtype(variable)
                content = file.read(math.prod(variable.shape) * dtype.itemsize)
                variable.assign(np.frombuffer(content, dtype).reshape(tuple(variable.shape)))

        yield put_back


def _dtype(variable: Any) -> np.dtype:
    """Returns the NumPy dtype of a variable of Keras 3, whose dtype is a name, or another."""
    return np.dtype(getattr(variable.dtype, "as_numpy_dtype", variable.dtype))


def _storage(variables: list[Any]) -> IO[bytes]:
    size = sum(math.prod(v.shape) * _dtype(v).itemsize for v in variables)
    return io.BytesIO() if size <= _IN_MEMORY else tempfile.TemporaryFile()
