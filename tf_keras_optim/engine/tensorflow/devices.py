"""What devices can do."""

import functools

import tensorflow as tf

_AMPERE = (8, 0)  # the first of NVIDIA's generations that multiplies bfloat16 in hardware


def multiplies_bfloat16(device: str) -> bool:
    """Says whether products in bfloat16 are faster on a device than in float32.

    Args:
      device: the name of a device, e.g. "/job:localhost/replica:0/task:0/device:GPU:0"; an
        empty one stands for that of the host.
    """
    kind = tf.DeviceSpec.from_string(device).device_type if device else "CPU"
    return kind == "TPU" or (kind == "GPU" and _all_gpus_do())


@functools.cache
def _all_gpus_do() -> bool:
    """Whether every GPU here does, so that all replicas decide alike."""
    gpus = tf.config.list_physical_devices("GPU")
    found = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return all((details.get("compute_capability") or (0, 0)) >= _AMPERE for details in found)
