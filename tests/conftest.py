"""Four logical CPUs for every test, so that replicas can be tested anywhere."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import tensorflow as tf

from tests.support import dealing

# What the imports have made lives as long as the tests; collections need not look at it.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 50)

DEVICES = ["CPU:0", "CPU:1", "CPU:2", "CPU:3"]

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration() for _ in DEVICES],
)


is_built_with_xla = tf.test.is_built_with_xla


def running_keras():
    return 2 if tf.keras.__name__.startswith("tf_keras") else 3


def pytest_configure(config):
    config.addinivalue_line("markers", dealing.DESCRIPTION)
    config.addinivalue_line("markers", dealing.XLA_DESCRIPTION)


@pytest.hookimpl(tryfirst=True)  # before options leave tests out
def pytest_collection_modifyitems(config, items):
    if dealing.is_asked_for():
        items[:], others = dealing.deal(items, running_keras())
        config.hook.pytest_deselected(items=others)


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item):
    has_xla = dealing.has_xla(item, running_keras())
    tf.test.is_built_with_xla = is_built_with_xla if has_xla else lambda: False


@pytest.fixture(scope="session")
def strategies():
    """By number of replicas. Only one of them with collectives: all have one group key."""
    reduction = tf.distribute.ReductionToOneDevice()
    return {
        2: tf.distribute.MirroredStrategy(DEVICES[:2]),
        4: tf.distribute.MirroredStrategy(DEVICES, cross_device_ops=reduction),
    }


@pytest.fixture(scope="session")
def strategy(strategies):
    return strategies[2]
