"""A callback that records what the optimizer does."""

import math
import os
from collections.abc import MutableMapping
from typing import Any

import tensorflow as tf

import tf_keras_optim.monitor_page as monitor_page
from tf_keras_optim.compiled import optimizer_of
from tf_keras_optim.engine.step import statistics
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers.base import Optimizer

PREFIX = "optimizer/"  # before the names in Keras' logs and in TensorBoard


class OptimizerMonitor(keras.callbacks.Callback):
    """Writes the optimizer's `statistics` into Keras' logs and TensorBoard, and plots them.

    Every `every` batches, and at the end of each epoch, the callback reads the numbers of the
    last update. They enter the logs as "optimizer/learning_rate", "optimizer/gradient_norm" and
    so on. The progress bar, the history, and the callbacks after this one in the list see them
    there. `Optimizer.statistics` says what each number means.

    Measuring is turned on when training begins. If Keras' training function was traced before
    that, it is traced once more. The trained weights are the same with and without the
    callback. The optimizer goes on measuring afterwards; its copies do not measure.

    The callback watches the optimizer that the model is compiled with. If the model has others,
    call their `statistics`. In `evaluate` and `predict` the callback does nothing.

    Args:
      log_dir: TensorBoard's log directory, or `None`. The step in TensorBoard is the number of
        the update.
      every: number of batches between two readings, at least 1. The logs of a batch show the
        last reading. With `steps_per_execution` a reading follows a whole call.
      per_variable: whether to record the numbers of each variable too. They go to TensorBoard
        and into `records`, not into the logs.

    Attributes:
      records: one dict for each reading, with the numbers that `statistics` returns, "batch"
        (the number of batches that this monitor has seen) and, if the logs have it, "loss".
        Further calls of `fit` add to the list.

    Raises:
      TypeError: when training begins, and the model's optimizer is not of this package.
      ValueError: `every` is not an integer of at least 1.
      ImportError: `log_dir` is given, and TensorBoard is not installed.

    Example:
      >>> model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(1)])
      >>> model.compile(SGD(0.25), "mse")
      >>> monitor = callbacks.OptimizerMonitor()
      >>> history = model.fit(tf.ones([8, 2]), tf.ones([8, 1]), verbose=0,
      ...                     callbacks=[monitor]).history
      >>> history["optimizer/learning_rate"]
      [0.25]
    """

    def __init__(
        self,
        log_dir: str | os.PathLike | None = None,
        every: int = 100,
        *,
        per_variable: bool = False,
    ):
        super().__init__()
        if type(every) is not int or every < 1:
            raise ValueError(
                "`OptimizerMonitor`: argument `every` must be a number of batches, an integer "
                f"of at least 1. Received: {every!r}."
            )
        if log_dir is not None and not hasattr(tf.summary, "scalar"):
            raise ImportError(
                f"`OptimizerMonitor`: `log_dir`={os.fspath(log_dir)!r} needs TensorBoard. "
                "Install `tensorboard`, or leave `log_dir` out."
            )
        self.log_dir = None if log_dir is None else os.fspath(log_dir)
        self.every = every
        self.per_variable = bool(per_variable)
        self.records: list[dict[str, float]] = []
        self._of: Any = None
        self._writer: Any = None
        self._batches = 0
        self._first = 0  # the number of batches before this epoch
        self._due = 1
        self._shown: dict[str, float] = {}

    def set_model(self, model: Any) -> None:
        """Receives the model; Keras calls it."""
        super().set_model(model)
        self._of = model

    def on_train_begin(self, logs: Any = None) -> None:
        """Turns measuring on."""
        parts = self._optimizer().tko
        statistics.begin(parts.context, measures=parts.stepper.measures)
        watch = parts.context.watch
        if watch.has_missed:
            self._of.make_train_function(force=True)
            watch.made_anew()
        if self.log_dir is not None and self._writer is None:
            self._writer = tf.summary.create_file_writer(self.log_dir)
        self._shown = {}
        self._due = self._batches + 1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Counts batches from here."""
        self._first = self._batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Reads the numbers if they are due, and shows the last reading."""
        # Several at once under `steps_per_execution`; Keras 3 takes the last call for full.
        steps = (self.params or {}).get("steps")
        self._batches = self._first + (min(batch + 1, steps) if steps else batch + 1)
        if self._batches >= self._due:
            found = self._read(logs)
            self._shown = {n: v for n, v in found.items() if not math.isnan(v)}
            self._due = self._batches + self.every
        if isinstance(logs, MutableMapping):
            logs.update(self._shown)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Reads the numbers, and puts them into the logs of the epoch."""
        found = self._read(logs)
        if isinstance(logs, MutableMapping):
            logs.update(found)

    def on_train_end(self, logs: Any = None) -> None:
        """Flushes what was written for TensorBoard."""
        if self._writer is not None:
            self._writer.flush()

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Plots what was recorded, on one page, over the updates.

        Args:
          path: a file to write (.png, .svg, .pdf), or `None`.

        Returns:
          The `matplotlib.figure.Figure`.

        Raises:
          ImportError: matplotlib is not installed.
          ValueError: nothing was recorded yet.
        """
        return monitor_page.draw(self.records, path)

    def _optimizer(self) -> Optimizer:
        return optimizer_of(self._of, type(self).__name__)

    def _read(self, logs: Any) -> dict[str, float]:
        """Reads the numbers, records them, and returns them as they stand in the logs."""
        numbers = self._optimizer().statistics(per_variable=self.per_variable)
        numbers |= _of_wrapper(self._of.optimizer)
        record = {"batch": float(self._batches), **numbers}
        if isinstance(logs, MutableMapping) and "loss" in logs:
            record["loss"] = float(logs["loss"])
        last = self.records[-1] if self.records else None
        if last is not None and last["batch"] == record["batch"]:
            self.records[-1] = record  # the end of an epoch
        else:
            self.records.append(record)
        self._write(numbers)
        return {PREFIX + n: v for n, v in numbers.items() if "/variables/" not in n}

    def _write(self, numbers: dict[str, float]) -> None:
        if self._writer is None:
            return
        with self._writer.as_default():
            for name, number in numbers.items():
                if name != "update" and not math.isnan(number):
                    tf.summary.scalar(PREFIX + name, number, step=int(numbers["update"]))


def _of_wrapper(optimizer: Any) -> dict[str, float]:
    """Returns the loss scale of Keras' own wrapper; that of ours is in the numbers already."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is None or isinstance(optimizer, LossScaleOptimizer):
        return {}
    scale = getattr(optimizer, "dynamic_scale", None)  # a variable, in Keras 3
    if scale is not None:
        native = distribution.local(inner.tko.keras.unwrap(scale))
        return {"loss_scale": float(native.numpy())}
    scale = getattr(optimizer, "loss_scale", None)  # a tensor, in Keras 2
    return {} if scale is None else {"loss_scale": float(scale)}
