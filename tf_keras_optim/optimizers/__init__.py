"""The optimizers, one file for each algorithm."""

from tf_keras_optim.optimizers.adadelta import Adadelta
from tf_keras_optim.optimizers.adafactor import Adafactor
from tf_keras_optim.optimizers.adagrad import Adagrad
from tf_keras_optim.optimizers.adam import Adam
from tf_keras_optim.optimizers.adamax import Adamax
from tf_keras_optim.optimizers.adamw import AdamW
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.ftrl import Ftrl
from tf_keras_optim.optimizers.lamb import Lamb
from tf_keras_optim.optimizers.lion import Lion
from tf_keras_optim.optimizers.nadam import Nadam
from tf_keras_optim.optimizers.rmsprop import RMSprop
from tf_keras_optim.optimizers.sgd import SGD

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
]
