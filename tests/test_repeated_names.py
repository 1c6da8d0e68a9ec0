"""Weights of one name in several layers are told apart by their place."""

import h5py
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras
X = np.random.default_rng(0).normal(size=(8, 4)).astype("f")


@keras.utils.register_keras_serializable(package="repeated")
class Pair(keras.layers.Layer):
    """Two layers side by side, which Keras 2 builds from a file without this one's name."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(4)
        self.second = keras.layers.Dense(4)

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)
        super().build(shape)

    def call(self, x):
        return tf.tanh(self.first(x) - self.second(x))

    def compute_output_shape(self, shape):
        return shape


@keras.utils.register_keras_serializable(package="repeated")
class Twice(keras.layers.Layer):
    """Two weights of one name."""

    def build(self, shape):
        size = (int(shape[-1]), 4)
        self.first = self.add_weight(name="w", shape=size)
        self.second = self.add_weight(name="w", shape=size)
        super().build(shape)

    def call(self, x):
        return tf.tanh(tf.matmul(x, self.first + 0.0) - tf.matmul(x, self.second + 0.0))

    def compute_output_shape(self, shape):
        return shape


def plain(layer):
    return keras.Sequential([keras.layers.Input((4,)), layer(), layer(), keras.layers.Dense(1)])


def nested_and_shared(layer):
    inner = keras.Sequential([keras.layers.Input((4,)), layer(), layer()])
    x, twice = keras.layers.Input((4,)), layer()
    return keras.Model(x, keras.layers.Dense(1)(inner(twice(twice(x)))))


def compiled(model):
    model.compile(tko.SGD(0.1, momentum=0.9, jit_compile=False), "mse", run_eagerly=True)
    return model


def momenta(model):
    slots = model.optimizer.state_dict()["variables"].values()
    return [found["momentum"] for found in slots]


def through(name):
    def load(model, make, directory):
        path = str(directory / name)
        if name == "checkpoint":
            tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(path)
            other = make()
            tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path)
        elif name.endswith(".keras"):
            model.save(path)
            return keras.models.load_model(path)
        else:
            model.save_weights(path)
            other = make()
            other.load_weights(path)
        other.optimizer.build(other.trainable_variables)
        return other

    return load


WAYS = {name: through(name) for name in ("x.keras", "x.weights.h5", "checkpoint")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("shape", "layer"), [(plain, Twice), (nested_and_shared, Pair)])
def test_each_weight_gets_its_own_state(tmp_path, shape, layer, way):
    def make():
        return compiled(shape(layer))

    model = make()
    model.train_on_batch(X, X[:, :1])
    loaded = WAYS[way](model, make, tmp_path)
    expected = momenta(model)
    assert len({value.tobytes() for value in expected}) == len(expected)
    for value, other in zip(momenta(loaded), expected, strict=True):
        np.testing.assert_array_equal(value, other)


def variables():
    return [tf.Variable(X[i, :2], name="w") for i in range(4)]


def stepped(*order):
    """An optimizer that got to know four variables in an order, after a step."""
    optimizer, weights = tko.SGD(0.1, momentum=0.9), variables()
    for places in order:
        optimizer.build([weights[i] for i in places])
    optimizer.apply_gradients([(i + tf.ones(2), w) for i, w in enumerate(weights)])
    return optimizer, weights


def slots(optimizer):
    return [found["momentum"] for found in optimizer.state_dict()["variables"].values()]


@pytest.mark.parametrize("weights_come_first", [False, True])
def test_a_frozen_layer_is_left_out_and_not_its_neighbour(tmp_path, weights_come_first):
    optimizer, weights = stepped((0, 1, 2, 3))
    other, last = (
        tko.SGD(0.1, momentum=0.9),
        [tf.Variable([i, -i], name="w") for i in (1.0, 2.0)],
    )
    other.build(last)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        optimizer.save_own_variables(file.create_group("vars"))
        if not weights_come_first:  # as in Keras 2
            other.load_own_variables(file["vars"])
        for variable, value in zip(last, weights[2:]):
            variable.assign(value)
        if weights_come_first:
            other.load_own_variables(file["vars"])
        np.testing.assert_array_equal(slots(other), slots(optimizer)[2:])


def test_the_order_in_which_variables_became_known_does_not_matter():
    optimizer, _ = stepped((2, 3), (0, 1, 2, 3))
    other = tko.SGD(0.1, momentum=0.9)
    other.build(variables())
    other.load_state_dict(optimizer.state_dict())
    np.testing.assert_array_equal(slots(other), slots(optimizer))
