"""Optimizers for tf.keras: TensorFlow-native, compiled, correct under tf.distribute.

```python
import tf_keras_optim as tko

model.compile(optimizer=tko.AdamW(1e-3), loss="mse")
```
"""

from typing import TYPE_CHECKING

from tf_keras_optim import callbacks, optimizers, schedules
from tf_keras_optim.batch_statistics import update_batch_statistics
from tf_keras_optim.conversion import convert, to_keras
from tf_keras_optim.conversion.optimizer_map import MultiOptimizer, OptimizerMap
from tf_keras_optim.engine.explain import VariableReport
from tf_keras_optim.engine.hyperparameters import Hyperparameter, LearningRate
from tf_keras_optim.engine.state.named_state import LoadReport
from tf_keras_optim.engine.state.slots import Slot
from tf_keras_optim.engine.update.kernels import Scalars
from tf_keras_optim.engine.variable_hooks import VariableInfo
from tf_keras_optim.lbfgs import LbfgsResult, minimize_lbfgs
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.model_groups import layerwise_learning_rates, no_decay_on_vectors
from tf_keras_optim.optimizers import (
    ADOPT,
    CAME,
    LARS,
    MARS,
    PSGLD,
    SGD,
    SGHMC,
    SGLD,
    AdaBelief,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Adan,
    AdEMAMix,
    Ftrl,
    Lamb,
    Lion,
    Muon,
    Nadam,
    Optimizer,
    Prodigy,
    RAdam,
    RMSprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    Shampoo,
    Soap,
    Yogi,
)
from tf_keras_optim.rate_finding import find_learning_rate
from tf_keras_optim.rate_range import LearningRateRange
from tf_keras_optim.registry import (
    deserialize,
    get,
    install,
    list_optimizers,
    serialize,
    uninstall,
)
from tf_keras_optim.saving import (
    ExportedModel,
    export_tflite,
    export_training,
    load_model,
    load_state,
    load_training,
    load_weights,
    save_model,
    save_state,
    save_weights,
)
from tf_keras_optim.sharpness import SharpnessAware, sharpness_aware
from tf_keras_optim.version import VERSION

__version__ = VERSION

__all__ = [
    "ADOPT",
    "CAME",
    "LARS",
    "MARS",
    "PSGLD",
    "SGD",
    "SGHMC",
    "SGLD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "ExportedModel",
    "Ftrl",
    "Hyperparameter",
    "Lamb",
    "LbfgsResult",
    "LearningRate",
    "LearningRateRange",
    "Lion",
    "LoadReport",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "Optimizer",
    "OptimizerMap",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Scalars",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Shampoo",
    "SharpnessAware",
    "Slot",
    "Soap",
    "VariableInfo",
    "VariableReport",
    "Yogi",
    "callbacks",
    "convert",
    "deserialize",
    "export_tflite",
    "export_training",
    "find_learning_rate",
    "get",
    "install",
    "layerwise_learning_rates",
    "list_optimizers",
    "load_model",
    "load_state",
    "load_training",
    "load_weights",
    "minimize_lbfgs",
    "no_decay_on_vectors",
    "save_model",
    "save_state",
    "save_weights",
    "schedules",
    "serialize",
    "sharpness_aware",
    "to_keras",
    "uninstall",
    "update_batch_statistics",
]

if not TYPE_CHECKING:  # what `optimizers` alone names
    from tf_keras_optim.optimizers import *  # noqa: F403

    __all__ += [name for name in optimizers.__all__ if name not in __all__]
