"""What XLA cannot compile on this processor, whatever is asked of it."""

import pytest
import tensorflow as tf

from tf_keras_optim.engine.tensorflow.xla import can_compile


def need(dtype):
    """Skips a test that compiles arithmetic in a dtype which XLA has not here."""
    if not can_compile(tf.as_dtype(dtype), "CPU"):
        pytest.skip(f"XLA compiles no {tf.as_dtype(dtype).name} on this processor")
