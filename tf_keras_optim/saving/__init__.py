"""Files with an optimizer's state, written whole or not at all, and checked when read."""

from tf_keras_optim.saving.keras_files import (
    load_model,
    load_weights,
    save_model,
    save_weights,
)
from tf_keras_optim.saving.resume import load_state, save_state

__all__ = [
    "load_model",
    "load_state",
    "load_weights",
    "save_model",
    "save_state",
    "save_weights",
]
