"""Learning-rate schedules; they work with Keras' own optimizers too.

Each is a function of the number of updates so far, computed in float64, so that steps beyond
2**24 remain distinct. The six that Keras has take the same arguments and give the same values.
Hyperparameters whose documentation says so (betas, momentum, weight decay) take a schedule as
well.
"""

from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.schedules.base import Schedule, deserialize
from tf_keras_optim.schedules.combined import Join, Warmup
from tf_keras_optim.schedules.cosines import CosineDecay, CosineDecayRestarts
from tf_keras_optim.schedules.decays import (
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
)
from tf_keras_optim.schedules.shapes import (
    Cyclical,
    InverseSqrt,
    OneCycle,
    Rex,
    WarmupStableDecay,
)

serialize = keras.optimizers.schedules.serialize

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "Cyclical",
    "ExponentialDecay",
    "InverseSqrt",
    "InverseTimeDecay",
    "Join",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "Rex",
    "Schedule",
    "Warmup",
    "WarmupStableDecay",
    "deserialize",
    "serialize",
]
