"""Two logical CPUs for every test, so that two replicas can be tested anywhere."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import tensorflow as tf

DEVICES = ["CPU:0", "CPU:1"]

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration() for _ in DEVICES],
)


@pytest.fixture(scope="session")
def strategy():
    return tf.distribute.MirroredStrategy(DEVICES)
