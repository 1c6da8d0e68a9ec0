"""What the suite tasks and the demo train on: digits, Python's help texts, an equation."""

import dataclasses
import pydoc_data.topics
from typing import Any

import numpy as np
import tensorflow as tf

keras = tf.keras
LENGTH, WIDTH, LAYERS, HEADS = 64, 64, 2, 4  # of the text: characters, units, blocks, heads


@dataclasses.dataclass(frozen=True)
class Data:
    """Examples to train on, and others to validate on.

    Attributes:
      x: the inputs, [n, ...].
      y: the classes, int [n] or [n, length]; or values, [n, 1].
      x_valid: inputs of the validation set.
      y_valid: classes, or values, of the validation set.
      classes: how many classes there are; 1 where there are none.
    """

    x: np.ndarray
    y: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray
    classes: int


def digits() -> Data:
    """Returns 1,797 images of 8 x 8 pixels; the last 397 are for validation."""
    import sklearn.datasets

    found = sklearn.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    x = (found.images[order, :, :, None] / 16.0).astype("f")
    y = found.target[order].astype("i4")
    return Data(x[:1400], y[:1400], x[1400:], y[1400:], 10)


def text() -> Data:
    """Returns windows of Python's help texts, each with the same one character later.

    The last tenth of the text is for validation: 256 windows that do not overlap. Characters
    outside ASCII count as one.
    """
    topics = pydoc_data.topics.topics
    whole = "\n".join(topics[name] for name in sorted(topics))
    codes = np.frombuffer(whole.encode("ascii", "replace"), np.uint8)
    alphabet, numbers = np.unique(codes, return_inverse=True)
    numbers = numbers.astype("i4")
    end = len(numbers) * 9 // 10
    starts = np.arange(0, end - LENGTH - 1, LENGTH // 4)
    places = end + np.arange(256) * ((len(numbers) - end - LENGTH - 1) // 256)
    x, y = (_windows(numbers, starts + shift) for shift in (0, 1))
    x_valid, y_valid = (_windows(numbers, places + shift) for shift in (0, 1))
    return Data(x, y, x_valid, y_valid, len(alphabet))


def _windows(numbers: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return numbers[starts[:, None] + np.arange(LENGTH)]


def poisson() -> Data:
    """Returns points of [0, 1] with the right side of u'' = f, and others with the solution.

    The solution is u(x) = sin(pi x) + sin(4 pi x) / 2, which is 0 at both ends.
    """
    x = np.linspace(0, 1, 64, dtype="f")[:, None]
    x_valid = np.linspace(0, 1, 501, dtype="f")[:, None]
    right = -((np.pi) ** 2) * (np.sin(np.pi * x) + 8 * np.sin(4 * np.pi * x))
    solution = np.sin(np.pi * x_valid) + 0.5 * np.sin(4 * np.pi * x_valid)
    return Data(x, right.astype("f"), x_valid, solution.astype("f"), 1)


def digits_model(classes: int) -> Any:
    """Returns a convolutional network for the digits, about 20,000 parameters."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(classes, name="head"),
        ]
    )


class Positions(keras.layers.Layer):  # type: ignore[name-defined, misc]
    """Adds a learned vector for each place in the window."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the vectors."""
        self.embeddings = self.add_weight(
            name="embeddings", shape=tuple(input_shape[1:]), initializer="uniform"
        )
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the inputs with the vectors added."""
        return inputs + self.embeddings


def text_model(classes: int, *, blocks: int = LAYERS, width: int = WIDTH) -> Any:
    """Returns a transformer that sees what came before, about 110,000 parameters.

    Args:
      classes: how many characters there are.
      blocks: how many times there is attention and what follows on it.
      width: units of a character.
    """
    layers = keras.layers
    given = keras.Input((LENGTH,), dtype="int32")
    x = Positions(name="positions")(layers.Embedding(classes, width, name="characters")(given))
    for _ in range(blocks):
        normal = layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(HEADS, width // HEADS)
        x = layers.add([x, attention(normal, normal, use_causal_mask=True)])
        inner = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.add([x, layers.Dense(width)(inner)])
    normal = layers.LayerNormalization()(x)
    outputs = layers.Dense(classes, name="head", dtype="float32")(normal)
    return keras.Model(given, outputs)


def poisson_model(classes: int) -> Any:
    """Returns a network from one number to `classes` numbers; for one, 1,153 parameters."""
    dense = keras.layers.Dense
    return keras.Sequential(
        [
            keras.Input((1,)),
            dense(32, activation="tanh"),
            dense(32, activation="tanh"),
            dense(classes, name="head"),
        ]
    )


def _at(model: Any, x: tf.Tensor) -> tf.Tensor:
    return x * (1.0 - x) * model(x)  # 0 at both ends


def residual(model: Any, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the mean square of u'' - y at the points x, u being x (1 - x) times a model."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            values = _at(model, x)
        slope = inner.gradient(values, x)
    return tf.reduce_mean(tf.square(outer.gradient(slope, x) - y))


def distance(model: Any, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the error of that u in the mean square, as a share of the solution y."""
    return tf.norm(_at(model, x) - y) / tf.norm(y)
