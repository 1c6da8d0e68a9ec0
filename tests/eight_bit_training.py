"""Adam with its moments in 8 bits beside float32: `python tests/eight_bit_training.py`.

Two models on data that comes with scikit-learn and with Python: a convolutional one on the
digits, and one that tells the next character of Python's own documentation. The rate falls
to zero along a cosine. The loss is that of the whole training set after the last step.
"""

from pydoc_data import topics

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import tf_keras_optim as tko

BATCH = 64
CONTEXT = 16


def digits():
    """Returns a model with 151306 parameters, 1797 images, and their classes."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )
    images, classes = load_digits(return_X_y=True)
    return model, (images / 16.0).reshape(-1, 8, 8, 1).astype("f"), classes


def characters(samples=24_000):
    """Returns a model with about 300000 parameters, contexts, and the characters after."""
    layers = tf.keras.layers
    text = "".join(topics.topics[name] for name in sorted(topics.topics))[:100_000]
    known = sorted(set(text))
    ids = np.array([known.index(character) for character in text])
    starts = np.random.default_rng(0).choice(len(ids) - CONTEXT, samples, replace=False)
    model = tf.keras.Sequential(
        [
            layers.Input((CONTEXT,), dtype="int32"),
            layers.Embedding(len(known), 64),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(len(known)),
        ]
    )
    return model, ids[starts[:, np.newaxis] + np.arange(CONTEXT)], ids[starts + CONTEXT]


def train(make, epochs, slot_dtype, seed=0):
    """Trains a model.

    Returns:
      loss: the final training loss.
      size: bytes of the optimizer's slots for each parameter of the model.
    """
    tf.keras.utils.set_random_seed(seed)
    model, inputs, targets = make()
    steps = epochs * -(-len(inputs) // BATCH)
    optimizer = tko.Adam(tko.schedules.CosineDecay(2e-3, steps), slot_dtype=slot_dtype)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(inputs, targets, batch_size=BATCH, epochs=epochs, verbose=0)
    size = sum(v.nbytes for v in optimizer.get_weights() if v.ndim) / model.count_params()
    return float(model.evaluate(inputs, targets, batch_size=1000, verbose=0)), size


def main():
    """Prints the final losses, and their ratio to that of float32."""
    for make, epochs in ((digits, 8), (characters, 3)):
        for seed in range(3):
            (whole, most), (loss, size) = (
                train(make, epochs, d, seed) for d in ("float32", "int8")
            )
            print(
                f"{make.__name__} seed {seed}: float32 {whole:.5f} ({most:.2f} bytes a "
                f"parameter), int8 {loss:.5f} ({size:.2f} bytes), ratio {loss / whole:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
