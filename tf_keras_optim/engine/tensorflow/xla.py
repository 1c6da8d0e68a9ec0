"""What XLA can compile on the processor that this process runs on."""

import functools

import tensorflow as tf


def can_compile(dtype: tf.DType, device_type: str) -> bool:
    """Says whether XLA compiles arithmetic on variables of a dtype.

    It needs the processor's own instructions for float16 (F16C on x86): on CPUs without them
    such a function fails when it is compiled. The first question compiles a small one.

    Args:
      dtype: of the variables.
      device_type: of their device, e.g. "CPU".
    """
    return dtype != tf.float16 or device_type != "CPU" or _compiles_float16()


@functools.cache
def _compiles_float16() -> bool:
    @tf.function(jit_compile=True)
    def halved(value: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.cast(value, tf.float32) / 2.0, tf.float16)

    with tf.init_scope(), tf.device("CPU:0"):
        if not tf.executing_eagerly():
            return True  # nothing can be tried; what XLA says stands
        try:
            return bool(halved(tf.constant(1.0, tf.float16)).numpy() == 0.5)
        except tf.errors.InternalError:
            return False
