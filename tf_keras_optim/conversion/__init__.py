"""Optimizers of other libraries, with their state, and the way back."""

import tf_keras_optim.conversion.legacy  # noqa: F401  (Keras 2 converts ours then)
from tf_keras_optim.conversion.backward import to_keras
from tf_keras_optim.conversion.dispatch import convert

__all__ = ["convert", "to_keras"]
