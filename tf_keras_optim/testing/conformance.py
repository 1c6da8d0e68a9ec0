"""Checking an optimizer against everything that one must satisfy."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.hyperparameters import nearest
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import records
from tf_keras_optim.testing.checks import CHECKS, Trial
from tf_keras_optim.testing.report import (
    FAILED,
    NOT_RUN,
    PASSED,
    ConformanceError,
    NotRunError,
    Report,
    Result,
)


def check_optimizer(
    cls: type,
    arguments: Mapping[str, Any] | None = None,
    *,
    only: Iterable[str] | None = None,
    strategy: tf.distribute.Strategy | None = None,
    raises: bool = True,
) -> Report:
    """Runs the conformance kit on an optimizer class.

    What is checked: the configuration and Keras' serialization of it; equal numbers in
    eager code, `tf.function` and XLA; one trace for many calls; every floating dtype;
    sparse gradients with repeated rows, and lazy ones; two replicas; saving and loading,
    bit for bit; gradient accumulation; a falling loss on three objectives.

    Args:
      cls: a subclass of `tko.Optimizer`, by `update` or by `update_step`.
      arguments: what to make it with. Give a learning rate with which 100 steps of full
        batches make progress on small problems; 0.05 by default, other for some of ours.
      only: names of the checks to run; all by default.
      strategy: a mirrored strategy of two replicas to use. By default one is made
        where there are two logical devices; it reduces on one of them, since two
        strategies with collectives on the same devices get in each other's way.
      raises: whether to raise where a check fails.

    Returns:
      The report; `print` it for a table.

    Raises:
      TypeError: `cls` is no such class.
      ValueError: a name in `only` is unknown.
      ConformanceError: a check failed; the message is the table.

    Example:
      >>> report = check_optimizer(tko.SGD, {"learning_rate": 0.1}, only=["traces"])
      >>> print(report.results[0].status)
      passed
    """
    if not (isinstance(cls, type) and issubclass(cls, Optimizer)):
        raise TypeError(
            "`check_optimizer` takes a subclass of `tf_keras_optim.Optimizer` (the class, not "
            f"an instance). Received: {cls!r}."
        )
    names = list(CHECKS) if only is None else list(only)
    for name in names:
        if name not in CHECKS:
            raise ValueError(
                f"Unknown check {name!r}.{nearest(name, CHECKS)} Known: {', '.join(CHECKS)}."
            )
    arguments = _example(cls) if arguments is None else dict(arguments)
    trial = Trial(cls, arguments, strategy or _two_replicas())
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    report = Report(
        title=f"Conformance of {cls.__name__}({given}); {keras.__name__} {keras.__version__}, "
        f"TensorFlow {tf.__version__}",
        results=tuple(_outcome(name, trial) for name in names),
    )
    if raises and report.failures:
        raise ConformanceError(report)
    return report


def _example(cls: type) -> dict[str, Any]:
    found = [record.example for record in records().values() if record.cls is cls]
    return dict(found[0]) if found else {"learning_rate": 0.05}


@functools.cache
def _two_replicas() -> tf.distribute.Strategy | None:
    gpus, cpus = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
    devices = [device.name for device in (gpus if len(gpus) > 1 else cpus)]
    if len(devices) < 2:
        return None
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices[:2], cross_device_ops=reduction)


def _outcome(name: str, trial: Trial) -> Result:
    try:
        return Result(name, PASSED, CHECKS[name](trial))
    except NotRunError as reason:
        return Result(name, NOT_RUN, str(reason))
    except Exception as error:  # whatever an optimizer on trial raises is a finding
        kind = "" if type(error) is AssertionError else f"{type(error).__name__}: "
        return Result(name, FAILED, f"{kind}{error}")
