"""What the demo trains: handwritten digits, a small model, and how it is watched."""

import dataclasses
import math
import time
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tools.config import Config


@dataclasses.dataclass(frozen=True)
class Data:
    """Images as rows of 64 pixels (float32) and their classes 0 to 9 (int64).

    Attributes:
      train_images: shape `[n, 64]`.
      train_labels: shape `[n]`.
      test_images: shape `[m, 64]`.
      test_labels: shape `[m]`.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of batches, the last and smaller one included."""
        return math.ceil(len(self.train_labels) / batch_size)


def load_data(config: Config) -> Data:
    """Splits scikit-learn's digits (1797 images of 8x8), each class in proportion.

    With `standardize` every pixel gets mean 0 and deviation 1 over the training
    images (pixels that never vary become 0); without it, pixels lie in [0, 1].
    """
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.data,
        digits.target,
        test_size=config.data["test_fraction"],
        random_state=config.data["seed"],
        stratify=digits.target,
    )
    if config.data["standardize"]:
        mean, deviation = train_images.mean(axis=0), train_images.std(axis=0)
        # A pixel that is 0 in all training images may still be set in a test image.
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    else:
        mean, scale = 0.0, 1.0 / 16.0
    return Data(
        ((train_images - mean) * scale).astype(np.float32),
        train_labels.astype(np.int64),
        ((test_images - mean) * scale).astype(np.float32),
        test_labels.astype(np.int64),
    )


def build_model(config: Config) -> Any:
    """Returns a `tf.keras.Sequential` from `[batch, 64]` to logits `[batch, 10]`."""
    layers = [tf.keras.Input(shape=(64,))]
    for index, width in enumerate(config.model["hidden"]):
        layers.append(tf.keras.layers.Dense(width, activation=config.model["activation"]))
        if config.model["dropout"]:
            seed = config.data["seed"] + index
            layers.append(tf.keras.layers.Dropout(config.model["dropout"], seed=seed))
    layers.append(tf.keras.layers.Dense(10))
    return tf.keras.Sequential(layers)


class BatchLoss(tf.keras.metrics.Metric):
    """The cross-entropy of the last batch alone.

    Keras' own `loss` is a running mean over the epoch.
    """

    def __init__(self, name: str = "batch_loss"):
        super().__init__(name=name)
        self._last = self.add_weight(name="last", shape=(), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes the mean over a batch: classes `[batch]`, logits `[batch, 10]`."""
        losses = tf.keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=True
        )
        self._last.assign(tf.reduce_mean(losses))

    def result(self) -> Any:
        """Returns the loss of the last batch, a 0-d float32 tensor."""
        return tf.convert_to_tensor(self._last)


class Recorder(tf.keras.callbacks.Callback):
    """Records each step's loss and time, and each epoch's test accuracy.

    Attributes:
      losses: loss of each batch before its update.
      accuracies: accuracy on the validation data after each epoch.
      first_step_seconds: from the making of this object to the end of the first step.
      step_seconds: duration of every other step: taking the batch, forward pass,
        gradients, update and metrics.
    """

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.step_seconds: list[float] = []
        self.first_step_seconds = math.nan
        self._began = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the clock, except for the first step."""
        if self.losses:
            self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stops the clock once the loss is there."""
        loss = float(logs["batch_loss"])
        seconds = time.perf_counter() - self._began
        if self.losses:
            self.step_seconds.append(seconds)
        else:
            self.first_step_seconds = seconds
        self.losses.append(loss)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keeps the accuracy on the validation data."""
        self.accuracies.append(float(logs["val_accuracy"]))
