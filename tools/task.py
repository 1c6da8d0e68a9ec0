"""What the demo trains: digits or text, a model of either, and how a run is recorded."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tools.bench import task_data
from tools.bench.task_data import Data
from tools.config import Config


def steps_per_epoch(config: Config, data: Data) -> int:
    """Returns the number of batches, the last and smaller one included."""
    return math.ceil(len(data.y) / config.data["batch_size"])


def load_data(config: Config) -> Data:
    """Returns the examples: to train on as many as the configuration says, and to test on.

    Digits are rows of 64 pixels, float32 `[n, 64]`, with classes int64 `[n]`; in a fine-tuning
    the classes are 0 for even digits and 1 for odd ones. Text is windows of numbers of
    characters, int32 `[n, 64]`, with those one place later.
    """
    data = task_data.text() if config.data["name"] == "text" else _digits(config)
    if config.data.get("pretrain_epochs"):
        data = dataclasses.replace(data, y=data.y % 2, y_valid=data.y_valid % 2, classes=2)
    count = config.data["examples"]
    if count is None or count >= len(data.y):
        return data
    order = np.random.default_rng(config.data["seed"]).permutation(len(data.y))[:count]
    return dataclasses.replace(data, x=data.x[order], y=data.y[order])


def _digits(config: Config) -> Data:
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
        classes=10,
    )


@contextlib.contextmanager
def precision(config: Config) -> Iterator[None]:
    """Sets Keras' policy for models that are made and compiled inside."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(config.model["precision"])
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def build_model(config: Config, classes: int = 10) -> Any:
    """Returns a new model from examples to logits, float32 `[..., classes]`."""
    if config.data["name"] == "text":
        blocks, width = config.model["blocks"], config.model["width"]
        return task_data.text_model(classes, blocks=blocks, width=width)
    layers = [tf.keras.Input(shape=(64,))]
    for index, width in enumerate(config.model["hidden"]):
        activation = config.model["activation"]
        name = f"hidden_{index}"
        layers.append(tf.keras.layers.Dense(width, activation=activation, name=name))
        if config.model["dropout"]:
            seed = config.data["seed"] + index
            layers.append(tf.keras.layers.Dropout(config.model["dropout"], seed=seed))
    layers.append(tf.keras.layers.Dense(classes, name="head", dtype="float32"))
    return tf.keras.Sequential(layers)


def loss() -> Any:
    """Returns the cross-entropy of logits."""
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def starting_weights(config: Config, data: Data) -> list[np.ndarray]:
    """Returns the weights that both sides start from, as `get_weights` does.

    Before a fine-tuning they are those of a model that has learned the ten digits with Keras'
    Adam, but for the last layer, which is new.
    """
    tf.keras.utils.set_random_seed(config.data["seed"])
    model = build_model(config, data.classes)
    epochs = config.data.get("pretrain_epochs")
    if epochs:
        digits = _digits(config)
        learned = build_model(config, digits.classes)
        learned.compile(tf.keras.optimizers.Adam(0.003), loss())
        learned.fit(digits.x, digits.y, config.data["batch_size"], epochs, verbose=0)
        for layer, known in zip(model.layers[:-1], learned.layers[:-1]):
            layer.set_weights(known.get_weights())
    return model.get_weights()


class BatchLoss(tf.keras.metrics.Metric):
    """The cross-entropy of the last batch alone.

    Keras' own `loss` is a running mean over the epoch.
    """

    def __init__(self, name: str = "batch_loss"):
        super().__init__(name=name)
        self._last = self.add_weight(name="last", shape=(), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes the mean over a batch: classes `[batch, ...]`, logits `[batch, ..., n]`."""
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
