"""The optimizers, one file for each algorithm."""

from typing import TYPE_CHECKING

from tf_keras_optim.optimizers import records
from tf_keras_optim.optimizers.adabelief import AdaBelief as AdaBelief
from tf_keras_optim.optimizers.adadelta import Adadelta as Adadelta
from tf_keras_optim.optimizers.adafactor import Adafactor as Adafactor
from tf_keras_optim.optimizers.adagrad import Adagrad as Adagrad
from tf_keras_optim.optimizers.adam import Adam as Adam
from tf_keras_optim.optimizers.adamax import Adamax as Adamax
from tf_keras_optim.optimizers.adamw import AdamW as AdamW
from tf_keras_optim.optimizers.adan import Adan as Adan
from tf_keras_optim.optimizers.ademamix import AdEMAMix as AdEMAMix
from tf_keras_optim.optimizers.adopt import ADOPT as ADOPT
from tf_keras_optim.optimizers.base import Optimizer as Optimizer
from tf_keras_optim.optimizers.came import CAME as CAME
from tf_keras_optim.optimizers.ftrl import Ftrl as Ftrl
from tf_keras_optim.optimizers.lamb import Lamb as Lamb
from tf_keras_optim.optimizers.lars import LARS as LARS
from tf_keras_optim.optimizers.lion import Lion as Lion
from tf_keras_optim.optimizers.mars import MARS as MARS
from tf_keras_optim.optimizers.muon import Muon as Muon
from tf_keras_optim.optimizers.nadam import Nadam as Nadam
from tf_keras_optim.optimizers.prodigy import Prodigy as Prodigy
from tf_keras_optim.optimizers.psgld import PSGLD as PSGLD
from tf_keras_optim.optimizers.radam import RAdam as RAdam
from tf_keras_optim.optimizers.rmsprop import RMSprop as RMSprop
from tf_keras_optim.optimizers.schedule_free_adamw import ScheduleFreeAdamW as ScheduleFreeAdamW
from tf_keras_optim.optimizers.schedule_free_sgd import ScheduleFreeSGD as ScheduleFreeSGD
from tf_keras_optim.optimizers.sgd import SGD as SGD
from tf_keras_optim.optimizers.sghmc import SGHMC as SGHMC
from tf_keras_optim.optimizers.sgld import SGLD as SGLD
from tf_keras_optim.optimizers.shampoo import Shampoo as Shampoo
from tf_keras_optim.optimizers.soap import Soap as Soap
from tf_keras_optim.optimizers.yogi import Yogi as Yogi

if not TYPE_CHECKING:  # type checkers read the names above
    __all__ = ["Optimizer", *(record.name for record in records.records().values())]
