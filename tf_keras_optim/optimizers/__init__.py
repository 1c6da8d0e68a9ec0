"""The optimizers, one file for each algorithm."""

from tf_keras_optim.optimizers.adam import Adam
from tf_keras_optim.optimizers.adamw import AdamW
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
