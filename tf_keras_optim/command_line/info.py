"""What this installation is: versions, devices, the Keras that is used, and what compiles."""

import importlib.metadata
import platform
from collections.abc import Iterator

import tensorflow as tf

from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.optimizers.sgd import SGD
from tf_keras_optim.version import VERSION

_EXTRAS = ("tf_keras", "tensorflow-probability", "matplotlib", "PyYAML")


def text() -> str:
    """Returns a table of what there is, a line for each fact."""
    rows = list(_rows())
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def _rows() -> Iterator[tuple[str, str]]:
    yield "tf_keras_optim", VERSION
    yield "Python", f"{platform.python_version()} ({platform.machine()})"
    yield "TensorFlow", tf.__version__
    is_keras_2 = keras.__name__.startswith("tf_keras")
    how = "TF_USE_LEGACY_KERAS=1" if is_keras_2 else "TF_USE_LEGACY_KERAS=1 chooses Keras 2"
    yield "tf.keras", f"Keras {keras.__version__} ({keras.__name__}; {how})"
    for name in _EXTRAS:
        yield name, _version(name)
    policy = (
        keras.mixed_precision.global_policy() if is_keras_2 else keras.config.dtype_policy()
    )
    yield "dtype policy", policy.name
    for device in tf.config.list_logical_devices():
        if device.device_type in ("CPU", "GPU", "TPU"):
            name = device.name.removeprefix("/device:")
            yield name, f"{_described(device)}; XLA {_compiles(device.name)}"
    yield 'jit_compile="auto"', "XLA" if _uses_xla() else "TensorFlow's operations"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed (optional)"


def _described(device: tf.config.LogicalDevice) -> str:
    """Returns what is known about a device: its name where it has one, else its type."""
    number = int(device.name.rpartition(":")[2])
    physical = tf.config.list_physical_devices(device.device_type)
    if number >= len(physical):  # several logical devices on one
        return device.device_type
    details = tf.config.experimental.get_device_details(physical[number])
    return details.get("device_name", device.device_type)


def _compiles(device: str) -> str:
    """Compiles a small kernel on a device and says whether its result is right."""

    @tf.function(jit_compile=True)
    def halved(value: tf.Tensor) -> tf.Tensor:
        return value / 2.0

    try:
        with tf.device(device):
            right = float(halved(tf.constant(3.0)).numpy()) == 1.5
    except (tf.errors.OpError, RuntimeError) as error:
        return f"does not compile: {str(error).splitlines()[0]}"
    return "compiles" if right else "compiles, but computes wrong numbers"


def _uses_xla() -> bool:
    """Says whether an optimizer's update is compiled by XLA on the default device."""
    optimizer, variable = SGD(0.5, weight_decay=0.5), tf.Variable([1.0])
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    return bool(optimizer.jit_compile_used)
