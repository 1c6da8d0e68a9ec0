"""An embedding learns what the same table learns as a dense layer on one-hot rows."""

import harness
import numpy as np
import pytest
import tensorflow as tf

keras = tf.keras
ROWS, WIDTH, LENGTH = 12, 3, 5


def train(cls, one_hot, ids, targets):
    """Five steps of `fit`; ids repeat within a batch and some never occur."""
    keras.utils.set_random_seed(0)
    if one_hot:
        first = [
            keras.layers.Input((LENGTH, ROWS)),
            keras.layers.Dense(WIDTH, use_bias=False),
        ]
    else:
        first = [
            keras.layers.Input((LENGTH,), dtype="int32"),
            keras.layers.Embedding(ROWS, WIDTH),
        ]
    model = keras.Sequential([*first, keras.layers.Flatten(), keras.layers.Dense(1)])
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(size=w.shape).astype("f") for w in model.get_weights()])
    model.compile(cls(0.05), "mse")
    inputs = np.eye(ROWS, dtype="f")[ids] if one_hot else ids
    model.fit(inputs, targets, batch_size=8, epochs=5, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("cls", harness.OPTIMIZERS)
def test_an_embedding_equals_a_dense_layer_on_one_hot_rows(cls):
    generator = np.random.default_rng(1)
    ids = generator.integers(0, 8, (8, LENGTH))
    targets = generator.normal(size=(8, 1)).astype("f")
    assert len(np.unique(ids)) < ids.size  # repeated
    embedding, dense = (train(cls, one_hot, ids, targets) for one_hot in (False, True))
    for ours, expected in zip(embedding, dense):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
