"""The Keras this process runs, and the base class that optimizers have under it.

`tf.keras` is Keras 3 or, with TF_USE_LEGACY_KERAS=1, tf_keras (Keras 2). The
choice is TensorFlow's and is made once, when this package is imported.
"""

import os

import tensorflow as tf

_NEEDS_TENSORFLOW = (
    "tf_keras_optim needs Keras on the TensorFlow backend, but the backend here is "
    "{backend!r}: set KERAS_BACKEND=tensorflow before anything imports Keras."
)


def _uses_keras_2() -> bool:
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    if backend != "tensorflow" and not legacy:
        raise ImportError(_NEEDS_TENSORFLOW.format(backend=backend))
    return tf.keras.optimizers.Optimizer.__module__.startswith("tf_keras")


if _uses_keras_2():
    import tf_keras as keras

    from tf_keras_optim.keras_compat.keras2 import Keras2Optimizer as Face
else:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ImportError(_NEEDS_TENSORFLOW.format(backend=keras.backend.backend()))

    from tf_keras_optim.keras_compat.keras3 import Keras3Optimizer as Face

__all__ = ["Face", "keras"]
