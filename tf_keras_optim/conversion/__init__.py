"""Optimizers of other libraries, with their state, and the way back."""

from tf_keras_optim.conversion.backward import to_keras
from tf_keras_optim.conversion.dispatch import convert

__all__ = ["convert", "to_keras"]
