"""`load_weights(skip_mismatch=True)` into a compiled model with another head."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras
X = np.random.default_rng(0).normal(size=(8, 4)).astype("f")


def model_of(optimizer, units, names=("a", "b", "head")):
    """A trunk of two layers alike, and a head; layers without names get automatic ones."""
    names = names or (None,) * 3
    dense = keras.layers.Dense
    layers = [dense(4, activation="tanh", name=name) for name in names[:2]]
    layers = [keras.layers.Input((4,)), *layers, dense(units, name=names[2])]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


def trained(optimizer, **further):
    keras.utils.set_random_seed(0)
    model = model_of(optimizer, 1, **further)
    model.fit(X, X[:, :1], epochs=2, verbose=0)
    return model


def saved(model, directory, name):
    path = str(directory / name)
    (model.save if name.endswith(".keras") else model.save_weights)(path)
    return path


def slots(model, slot="momentum"):
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return [found.get(slot) for found in inner.state_dict()["variables"].values()]


def warned(load):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    return [str(w.message) for w in caught if "fits in part" in str(w.message)]


def check_trunk(model, expected):
    found = slots(model)
    for value, other in zip(found[:4], expected[:4]):
        assert other.any()
        np.testing.assert_array_equal(value, other)
    assert not any(value.any() for value in found[4:])


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("name", "wrapped", "built"),
    [
        ("x.weights.h5", False, True),
        ("x.weights.h5", True, False),
        ("x.keras", False, False),
        ("x.keras", True, True),
    ],
)
def test_what_fits_is_taken_and_the_rest_is_fresh(tmp_path, name, wrapped, built):
    def make(rate):
        optimizer = tko.Adam(rate, jit_compile=False)
        return tko.LossScaleOptimizer(optimizer, 64.0) if wrapped else optimizer

    model = trained(make(0.02))
    path = saved(model, tmp_path, name)
    other = model_of(make(0.01), 2)

    def load():
        other.load_weights(path, skip_mismatch=True)
        if not built:
            other.optimizer.build(other.trainable_variables)

    if built:
        other.optimizer.build(other.trainable_variables)
    (line,) = warned(load)
    assert "head/kernel" in line
    check_trunk(other, slots(model))
    assert int(other.optimizer.iterations) == 2
    if keras.__name__.startswith("keras"):  # Keras 2's files have no rate
        assert float(other.optimizer.learning_rate) == np.float32(0.02)
    before = other.get_weights()
    other.fit(X, X[:, :2], verbose=0)
    assert int(other.optimizer.iterations) == 3
    assert all((a != b).any() for a, b in zip(before, other.get_weights()))


@pytest.mark.parametrize("built", [False, True])
def test_the_weights_tell_who_is_who_under_other_numbers(tmp_path, built):
    keras.backend.clear_session()
    model = trained(tko.Adam(0.02, jit_compile=False), names=None)
    path = saved(model, tmp_path, "x.weights.h5")
    keras.backend.clear_session()
    keras.layers.Dense(1)  # so that the first layer here has the name of the second there
    other = model_of(tko.Adam(), 2, names=None)
    if built:
        other.optimizer.build(other.trainable_variables)
    other.load_weights(path, skip_mismatch=True)
    other.optimizer.build(other.trainable_variables)
    check_trunk(other, slots(model))


def test_the_state_of_another_class_does_not_stop_the_training(tmp_path):
    path = saved(trained(tko.SGD(0.1)), tmp_path, "x.weights.h5")
    other = model_of(tko.Adam(), 2)
    other.load_weights(path, skip_mismatch=True)
    (line,) = warned(lambda: other.fit(X, X[:, :2], verbose=0))
    assert "saved by 'SGD', here 'Adam'" in line
    assert int(other.optimizer.iterations) == 3


def test_state_that_has_no_names_is_taken_by_place(tmp_path):
    model = trained(keras.optimizers.Adam(0.02))
    path = saved(model, tmp_path, "x.weights.h5")
    other = model_of(tko.Adam(), 2)
    other.optimizer.build(other.trainable_variables)
    (line,) = warned(lambda: other.load_weights(path, skip_mismatch=True))
    assert "head/kernel/velocity: here (4, 2), saved (4, 1)" in line
    variables = [v for v in model.optimizer.variables if tuple(v.shape) == (4, 4)]
    np.testing.assert_array_equal(slots(other)[0], variables[0].numpy())
    assert int(other.optimizer.iterations) == 2


def test_without_the_argument_what_differs_raises(tmp_path):
    path = saved(trained(tko.Adam(0.02, jit_compile=False)), tmp_path, "x.weights.h5")
    other = model_of(tko.SGD(0.01), 1)
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match="saved by 'Adam', here 'SGD'"):
        other.load_weights(path)
