"""Keras' files where other variables are trainable than when the optimizer was compiled."""

import pickle

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras
FIRST, LAST = -2, -1  # the layers of harness.small_model


@pytest.fixture
def log_lines(monkeypatch):
    lines = []
    logger = tf.get_logger()
    monkeypatch.setattr(logger, "info", lambda text, *args: lines.append(text % args))
    return lines


def trained(optimizer=None, frozen=None):
    """A model after some steps, with a layer frozen all the while."""
    model = harness.small_model()
    if frozen is not None:
        model.layers[frozen].trainable = False
    model.compile(optimizer or tko.Adam(0.01), harness.classification_loss())
    model.fit(*harness.classification_data(), verbose=0, shuffle=False)
    return model


def momenta(model):
    """The first moment of each variable, by the last two parts of its path."""
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    state = inner.state_dict()["variables"]
    return {"/".join(path.split("/")[-2:]): slots["momentum"] for path, slots in state.items()}


def through_file(name):
    def load(model, directory):
        path = str(directory / name)
        if name.endswith(".keras"):
            model.save(path)
            return keras.models.load_model(path)
        model.save_weights(path)
        other = harness.small_model(seed=1)
        for layer, same in zip(other.layers, model.layers):
            layer.trainable = same.trainable
        wrap = getattr(model.optimizer, "inner_optimizer", None) is not None
        optimizer = tko.LossScaleOptimizer(tko.Adam()) if wrap else tko.Adam()
        other.compile(optimizer, harness.classification_loss())
        other.load_weights(path)
        other.optimizer.build(other.trainable_variables)
        return other

    return load


WAYS = {
    "model": through_file("x.keras"),
    "weights": through_file("x.weights.h5"),
    "pickle": lambda model, directory: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.one_keras
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_what_was_frozen_before_saving_is_left_out(way, wrapped, tmp_path, log_lines):
    optimizer = tko.LossScaleOptimizer(tko.Adam(0.01)) if wrapped else None
    model = trained(optimizer)
    expected = momenta(model)
    model.layers[FIRST].trainable = False
    loaded = WAYS[way](model, tmp_path)
    found = momenta(loaded)
    assert list(found) == ["head/kernel", "head/bias"]
    for name, value in found.items():
        assert value.any()
        np.testing.assert_array_equal(value, expected[name])
    assert int(loaded.optimizer.iterations) == 2
    (line,) = set(log_lines)  # Keras' files hold the state of what is wrapped twice
    assert "left out for 2 variables" in line
    assert "hidden/kernel" in line
    loaded.fit(*harness.classification_data(), verbose=0)
    assert int(loaded.optimizer.iterations) == 4


@pytest.mark.parametrize("way", WAYS)
def test_what_was_thawed_before_saving_starts_fresh(way, tmp_path, log_lines):
    model = trained(frozen=FIRST)
    expected = momenta(model)
    model.layers[FIRST].trainable = True
    loaded = WAYS[way](model, tmp_path)
    found = momenta(loaded)
    assert not found.pop("hidden/kernel").any()
    assert not found.pop("hidden/bias").any()
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name])
    assert "has nothing for 2 variables" in log_lines[0]
    before = loaded.get_weights()
    loaded.fit(*harness.classification_data(), verbose=0)
    assert all((a != b).any() for a, b in zip(before, loaded.get_weights()))


def checkpointed(model, directory):
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(directory / "c")
    other = three_layers(tko.Adam(0.01), [layer.trainable for layer in model.layers])
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(path)
    return other


def weights_into_another(model, directory):
    path = str(directory / "x.weights.h5")
    model.save_weights(path)
    other = three_layers(tko.Adam(0.01), [layer.trainable for layer in model.layers])
    other.load_weights(path)
    return other


def three_layers(optimizer, trainable, units=(4, 3)):
    layers = [keras.layers.Dense(size) for size in (*units, 1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    for layer, learns in zip(model.layers, trainable):
        layer.trainable = learns
    model.compile(optimizer, "mse")
    return model


DATA = (np.arange(32, dtype="f").reshape(8, 4) % 7 / 7, np.arange(8, dtype="f")[:, None] / 8)


@pytest.mark.one_keras
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "uncompiled"])
@pytest.mark.parametrize(
    ("way", "units"),
    [
        (WAYS["model"], (4, 3)),
        (WAYS["model"], (4, 4)),
        (WAYS["pickle"], (4, 4)),
        (weights_into_another, (4, 3)),
        (checkpointed, (4, 3)),
    ],
    ids=["model", "model of equal layers", "pickle", "weights", "checkpoint"],
)
def test_one_layer_was_frozen_and_another_thawed(way, units, compiled, tmp_path):
    model = three_layers(tko.Adam(0.01), (False, True, True), units=units)
    model.fit(*DATA, epochs=3, verbose=0, shuffle=False)
    model.layers[0].trainable, model.layers[1].trainable = True, False
    if compiled:
        model.compile(model.optimizer, "mse")
    loaded = way(model, tmp_path)
    for one in (model, loaded):
        one.compile(one.optimizer, "mse")
        one.fit(*DATA, epochs=2, verbose=0, shuffle=False)
    for v, w in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(v, w)


@pytest.mark.one_keras
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("way", [weights_into_another, checkpointed])
def test_a_built_optimizer_knows_when_a_thawed_layer_began(way, wrapped, tmp_path):
    """Keras 2 loads what is inside a wrapper twice; between equal layers the weights decide."""

    def made(trainable, built=True):
        optimizer = tko.Nadam(0.01, jit_compile=False)
        if wrapped:
            optimizer = tko.LossScaleOptimizer(optimizer, initial_scale=2.0)
        model = three_layers(optimizer, trainable, units=(4, 4))
        if built:
            optimizer.build(model.trainable_variables)
        return model

    def steps(model, count):
        for _ in range(count):
            model.train_on_batch(*DATA)

    model = made((False, True, True))
    steps(model, 3)
    model.layers[0].trainable = True
    path = str(tmp_path / "x.weights.h5")
    other = made((True, True, True))
    if way is weights_into_another:
        model.save_weights(path)
        other.load_weights(path)
    else:
        saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "c")
        tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(saved)
    for one in (model, other):
        one.compile(one.optimizer, "mse")
        steps(one, 2)
    for v, w in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(v, w)


def thawed_between(steps, wrapped=False, shift=0.0):
    """A model that trained with a layer frozen, is compiled to train it, and takes steps."""
    optimizer = tko.Nadam(0.01, use_ema=True, ema_momentum=0.9, jit_compile=False)
    if wrapped:
        optimizer = tko.LossScaleOptimizer(optimizer, initial_scale=2.0)
    keras.utils.set_random_seed(3)
    model = three_layers(optimizer, (False, True, True), units=(4, 4))
    model.train_on_batch(DATA[0] + shift, DATA[1])
    model.layers[0].trainable = True
    model.compile(model.optimizer, "mse", jit_compile=False)
    for _ in range(steps):
        model.train_on_batch(*DATA)
    return model


def arrays(model):
    kept = model.optimizer.state_dict()["variables"].values()
    slots = [array for arrays in kept for array in arrays.values() if array.ndim]
    return [*model.get_weights(), *slots]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_is_loaded_before_the_first_step_with_a_thawed_layer(wrapped, tmp_path):
    """The optimizer knows the other layers only, when a run is resumed in that phase."""
    path = str(tmp_path / "x.weights.h5")
    model = thawed_between(2, wrapped)
    model.save_weights(path)
    resumed = thawed_between(0, wrapped, shift=1.0)
    resumed.load_weights(path)
    for one in (model, resumed):
        one.train_on_batch(*DATA)
    for value, other in zip(arrays(resumed), arrays(model), strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.one_keras
def test_what_comes_after_the_next_step_starts_fresh(tmp_path):
    path = str(tmp_path / "x.weights.h5")
    model = thawed_between(2)
    model.save_weights(path)
    other = thawed_between(0)
    other.load_weights(path)
    known = other.trainable_variables[2:]
    other.optimizer.apply_gradients([(tf.ones(v.shape), v) for v in known])
    other.optimizer.build(other.trainable_variables)
    (first, *_) = momenta(other).values()
    assert first.shape == (4, 4) and not first.any()


@pytest.mark.parametrize("steps", [0, 1])
def test_averages_of_what_was_thawed_start_from_the_loaded_weights(steps, tmp_path):
    """Keras 2 loads the optimizer before the weights."""

    def averaging(frozen):
        model = harness.small_model(seed=int(not frozen))
        model.layers[FIRST].trainable = not frozen
        optimizer = tko.SGD(0.5, use_ema=True, ema_momentum=0.9)
        model.compile(optimizer, harness.classification_loss())
        return model

    x, y = harness.classification_data()
    model, path = averaging(frozen=True), str(tmp_path / "x.weights.h5")
    model.fit(x, y, verbose=0)
    model.layers[FIRST].trainable = True
    model.save_weights(path)
    saved = model.get_weights()
    loaded = averaging(frozen=False)
    loaded.optimizer.build(loaded.trainable_variables)
    loaded.load_weights(path)
    variables = loaded.trainable_variables
    for _ in range(steps):
        loaded.optimizer.apply_gradients([(tf.ones(v.shape), v) for v in variables])
    loaded.optimizer.finalize_variable_values(variables)
    for variable, weight in zip(variables[:2], saved):
        # One step of 0.5, of which the average takes a tenth.
        np.testing.assert_allclose(variable.numpy(), weight - 0.05 * steps, atol=1e-6)


def three_alike():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, activation="tanh") for _ in range(3)]
    model = keras.Sequential([keras.layers.Input((4,)), *layers])
    model.compile(tko.SGD(0.1, momentum=0.9), "mse")
    return model


def test_layers_of_other_numbers_are_told_apart_by_their_weights(tmp_path):
    path = str(tmp_path / "x.weights.h5")
    model = three_alike()
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("f")
    model.fit(x, x, verbose=0)
    expected = list(model.optimizer.state_dict()["variables"].values())
    model.save_weights(path)
    other = three_alike()  # the layers are dense_3 to dense_5 now
    other.layers[1].trainable = False
    other.compile(tko.SGD(0.1, momentum=0.9), "mse")
    other.load_weights(path)
    other.optimizer.build(other.trainable_variables)
    found = list(other.optimizer.state_dict()["variables"].values())
    for slots, place in zip(found, (0, 1, 4, 5)):
        np.testing.assert_array_equal(slots["momentum"], expected[place]["momentum"])


@pytest.mark.one_keras
@pytest.mark.parametrize("optimizer", [tko.Adam(amsgrad=True), tko.Adam(use_ema=True)])
def test_another_slot_of_a_variable_still_raises(tmp_path, optimizer):
    path = str(tmp_path / "x.weights.h5")
    model = trained()
    model.save_weights(path)
    other = harness.small_model()
    other.layers[FIRST].trainable = False
    other.compile(optimizer, harness.classification_loss())
    with pytest.raises(Exception, match="does not fit"):
        other.optimizer.build(other.trainable_variables)
        other.load_weights(path)
    assert not any(value.any() for value in momenta(other).values())


def test_named_state_is_strict_as_before():
    state = trained().optimizer.state_dict()
    other = harness.small_model()
    other.layers[FIRST].trainable = False
    other.compile(tko.Adam(), harness.classification_loss())
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match="in the saved state, but not here"):
        other.optimizer.load_state_dict(state)
    report = other.optimizer.load_state_dict(state, strict=False)
    assert any("hidden/kernel momentum" in line for line in report.unexpected)
