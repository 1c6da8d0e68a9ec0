"""Files with an optimizer's state, written atomically and checked when they are read."""

import tf_keras_optim.saving.directories
import tf_keras_optim.saving.skipped  # noqa: F401  (Keras says when it skips what differs)
from tf_keras_optim.saving.export import export_training
from tf_keras_optim.saving.exported import ExportedModel, load_training
from tf_keras_optim.saving.keras_files import (
    load_model,
    load_weights,
    save_model,
    save_weights,
)
from tf_keras_optim.saving.lite import export_tflite
from tf_keras_optim.saving.resume import load_state, save_state

__all__ = [
    "ExportedModel",
    "export_tflite",
    "export_training",
    "load_model",
    "load_state",
    "load_training",
    "load_weights",
    "save_model",
    "save_state",
    "save_weights",
]
