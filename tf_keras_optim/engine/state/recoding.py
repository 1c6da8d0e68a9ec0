"""Saved slots in 8 bits for slots that are floating-point here, and the other way round."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.numerics import quantization
from tf_keras_optim.engine.state.store import VariableState

Keys = dict[tuple[str, ...], Any]


def recoded(
    entries: list[VariableState], saved: Mapping[tuple[str, ...], Any]
) -> tuple[Keys, dict[tuple[str, ...], str]]:
    """Returns saved arrays in the codes or numbers that slots are kept in here.

    Args:
      entries: the model variables.
      saved: the saved arrays, by the keys that they have here.

    Returns:
      saved: the arrays; those that need not change are those given.
      changed: by the keys of the slots whose arrays are others now, what was saved.
    """
    found: Keys = dict(saved)
    changed: dict[tuple[str, ...], str] = {}
    for entry in entries:
        for name, slot in entry.slots.items():
            key = ("variables", entry.path, name)
            scale = ("variables", entry.path, f"{name}_scale")
            value = found.get(key)
            if value is None or tuple(value.shape) != tuple(slot.shape):
                continue
            is_code = np.dtype(value.dtype) in (np.int8, np.uint8)
            if slot.dtype.is_integer and not is_code and scale not in found:
                number = tf.constant(np.asarray(value).astype(np.float32))
                codes, scales = quantization.encoded(number, slot.dtype)
                found |= {key: codes.numpy(), scale: scales.numpy()}
            elif not slot.dtype.is_integer and is_code and _fits(value, found.get(scale)):
                scales = tf.constant(np.asarray(found.pop(scale)))
                found[key] = quantization.decoded(
                    tf.constant(np.asarray(value)), scales
                ).numpy()
            else:
                continue
            changed[key] = f"saved {tuple(value.shape)} {np.dtype(value.dtype).name}"
    return found, changed


def _fits(codes: Any, scales: Any) -> bool:
    """Says whether saved scales are those of the blocks of saved codes."""
    if scales is None or np.dtype(scales.dtype) != np.float32:
        return False
    return tuple(scales.shape) == (quantization.number_of_blocks(math.prod(codes.shape)),)
