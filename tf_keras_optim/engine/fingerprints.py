"""What an array is known by."""

import zlib
from typing import Any

import numpy as np

from tf_keras_optim.engine.saved_arrays import SavedArray


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
