"""What an array is known by."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_keras_optim.engine.state.saved_arrays import SavedArray


def is_fingerprint(value: Any) -> bool:
    """Says whether a value from a file has the form of what `fingerprint` returns."""
    if not isinstance(value, Mapping) or not {"shape", "dtype", "crc32"} <= set(value):
        return False
    shape, dtype, crc32 = value["shape"], value["dtype"], value["crc32"]
    whole = isinstance(shape, (list, tuple)) and all(isinstance(size, int) for size in shape)
    return whole and isinstance(dtype, str) and isinstance(crc32, int)


def fingerprint(value: Any) -> dict[str, Any]:
    """Returns an array's shape, dtype, and the CRC-32 of its bytes."""
    if isinstance(value, SavedArray):
        pieces, dtype, shape = value.pieces(), value.stored, value.shape
    else:
        array = np.ascontiguousarray(value)
        pieces, dtype, shape = iter([array.reshape(-1)]), array.dtype, np.shape(value)
    crc32 = 0
    for piece in pieces:
        crc32 = zlib.crc32(piece.view(np.uint8).data, crc32)
    return {"shape": list(shape), "dtype": dtype.name, "crc32": crc32}
