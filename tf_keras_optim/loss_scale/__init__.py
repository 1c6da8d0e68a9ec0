"""Loss scaling for float16, as an optimizer around one of this package."""

from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.loss_scale.around import watch
from tf_keras_optim.optimizers.records import PACKAGE

if keras.__name__.startswith("tf_keras"):
    from tf_keras_optim.loss_scale.keras2 import LossScaleOptimizer
else:
    from tf_keras_optim.loss_scale.keras3 import LossScaleOptimizer

watch()
keras.saving.register_keras_serializable(package=PACKAGE)(LossScaleOptimizer)

__all__ = ["LossScaleOptimizer"]
