"""Names, configs and saved models, in the running Keras."""

import json

import harness
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state
from tf_keras_optim.optimizers import records

keras = tf.keras
CLASSES = harness.OPTIMIZERS


@pytest.mark.parametrize("cls", CLASSES)
def test_names_in_any_case(cls):
    name = cls.__name__
    for text in (name, name.lower(), name.upper(), f"tf_keras_optim>{name}"):
        assert type(tko.get(text)) is cls


def test_get_returns_what_it_is_given_and_explains_what_it_cannot():
    optimizer = tko.Adam()
    assert tko.get(optimizer) is optimizer
    with pytest.raises(ValueError, match=r"'admw'.*Did you mean 'adamw'\?"):
        tko.get("admw")
    for other in (keras.optimizers.Adam(), 3, None):
        with pytest.raises(TypeError, match="takes a name, a config or an optimizer"):
            tko.get(other)


def test_names_are_listed_by_pattern():
    everything = tko.list_optimizers()
    assert everything == sorted(everything, key=str.lower)
    assert set(everything) == {cls.__name__ for cls in CLASSES} <= set(tko.__all__)
    assert tko.list_optimizers("*prop") == ["RMSprop"]
    assert tko.list_optimizers("ADAM*") == ["Adam", "Adamax", "AdamW"]
    assert tko.list_optimizers("ada[dg]*") == ["Adadelta", "Adagrad"]
    assert tko.list_optimizers("???") == ["SGD"]
    assert tko.list_optimizers("adm") == tko.list_optimizers("") == []
    for name in everything:
        assert type(tko.get(name)) is getattr(tko, name)
    for other in (None, 3, tko.Adam):
        with pytest.raises(TypeError, match=r"`pattern` must be a string.*Received: pattern="):
            tko.list_optimizers(other)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match=r"'ADAM' already, in .*optimizers\.adam\b"):
        records.registered({"learning_rate": 0.1})(type("ADAM", (tko.Optimizer,), {}))
    assert tko.list_optimizers("adam") == ["Adam"]


@pytest.mark.parametrize("record", harness.RECORDS, ids=lambda record: record.name)
def test_a_record_says_what_is_there(record):
    assert record.cls(**record.example).get_config()["learning_rate"] > 0.0
    assert harness.oracle_of(record.cls)
    known = hasattr(keras.optimizers, record.keras.name or "")
    assert known or (record.keras.name is None) or not harness.IS_KERAS_3
    assert {*record.keras.fixed, *record.keras.only} <= set(state.hyperparameters(record.cls))


def test_an_optimizer_without_an_oracle_is_found(monkeypatch):
    monkeypatch.delitem(oracles.ALGORITHMS, "adam")
    for cls in (tko.Adam, tko.AdamW):
        with pytest.raises(KeyError, match=rf"{cls.__name__} is registered, but has no oracle"):
            harness.oracle_of(cls)
    assert harness.oracle_of(tko.SGD)


@pytest.mark.parametrize("cls", CLASSES)
def test_configs_go_through_json(cls):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    averages_itself = cls in (tko.ScheduleFreeAdamW, tko.ScheduleFreeSGD)
    further = {"clipvalue": 1.0} if averages_itself else {"use_ema": True}
    for optimizer in (cls(0.25, clipnorm=1.0), cls(schedule, **further)):
        config = json.loads(json.dumps(tko.serialize(optimizer)))
        for again in (tko.deserialize(config), tko.get(config), keras.optimizers.get(config)):
            assert type(again) is cls
            assert again.get_config() == optimizer.get_config()


def test_keras_finds_the_registered_name():
    for name in ("tf_keras_optim>Adam", "tf_keras_optim>AdamW"):
        model = harness.small_model()
        model.compile(optimizer=name, loss=harness.classification_loss())
        assert isinstance(model.optimizer, tko.Adam)
        assert type(model.optimizer).__name__ == name.split(">")[1]


def test_install_and_uninstall():
    def compiled(name):
        model = harness.small_model()
        model.compile(optimizer=name, loss=harness.classification_loss())
        return type(model.optimizer)

    names = {"adam": tko.Adam, "Adam": tko.Adam, "adamw": tko.AdamW, "sgd": tko.SGD}
    before = {name: compiled(name) for name in names}
    tko.install()
    try:
        tko.install()  # a second time changes nothing
        assert {name: compiled(name) for name in names} == names
        assert compiled("lamb") is tko.Lamb  # a name that Keras itself does not find
    finally:
        tko.uninstall()
    after = {name: compiled(name) for name in names}
    assert after == before
    assert not any(issubclass(cls, tko.Optimizer) for cls in after.values())


def test_a_saved_model_comes_back_with_its_optimizer_and_state(tmp_path):
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    model, _ = harness.fit(tko.AdamW(schedule, weight_decay=0.01, use_ema=True))
    model.save(str(tmp_path / "model.keras"))
    again = keras.models.load_model(str(tmp_path / "model.keras"))
    assert type(again.optimizer) is tko.AdamW
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for ours, other in zip(model.optimizer.get_weights(), again.optimizer.get_weights()):
        assert (ours == other).all()


def test_keras_and_ours_read_one_anothers_state(tmp_path):
    path = str(tmp_path / "x.weights.h5")
    x, y = harness.classification_data()
    other_rate = 0.5 if harness.IS_KERAS_3 else 0.01  # Keras 2 does not save the rate
    for source, target in (
        (keras.optimizers.Adam(0.01), tko.Adam(other_rate)),
        (tko.Adam(0.01), keras.optimizers.Adam(0.01)),
    ):
        model, _ = harness.fit(source)
        model.save_weights(path)
        other = harness.small_model(seed=1)
        other.compile(target, harness.classification_loss())
        target.build(other.trainable_variables)
        other.load_weights(path)
        for m in (model, other):
            m.fit(x, y, epochs=1, verbose=0, shuffle=False)
        for ours, expected in zip(model.get_weights(), other.get_weights()):
            assert ours == pytest.approx(expected, abs=1e-6)


def test_a_weights_file_with_other_state_is_refused(tmp_path):
    path = str(tmp_path / "x.weights.h5")
    model, _ = harness.fit(tko.SGD(momentum=0.9))
    model.save_weights(path)
    for built in (True, False):
        other = harness.small_model()
        other.compile(tko.Adam(), harness.classification_loss())
        if built:
            other.optimizer.build(other.trainable_variables)
        with pytest.raises(Exception, match=r"saved by 'SGD', here 'Adam'[^#]*kernel velocity"):
            other.load_weights(path)
            other.fit(*harness.classification_data(), verbose=0)


def test_numbered_arrays_without_names_are_counted(tmp_path):
    path = str(tmp_path / "x.weights.h5")
    model, _ = harness.fit(keras.optimizers.SGD(0.01, momentum=0.9))
    model.save_weights(path)
    other = harness.small_model()
    other.compile(tko.Adam(), harness.classification_loss())
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(Exception, match=r"state variables, but [56] arrays were saved"):
        other.load_weights(path)


def test_a_weights_file_without_state_leaves_the_optimizer_alone(tmp_path):
    path = str(tmp_path / "x.weights.h5")
    harness.small_model().save_weights(path)
    model, _ = harness.fit(tko.Adam())
    before = model.optimizer.get_weights()
    if harness.IS_KERAS_3:
        model.load_weights(path)
    else:  # Keras 2 refuses such a file itself, because of the model's metrics
        model.optimizer.load_own_variables({})
    for old, new in zip(before, model.optimizer.get_weights()):
        assert (old == new).all()


@pytest.mark.skipif(harness.IS_KERAS_3, reason="these formats are Keras 2's")
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", ["model.h5", "directory"])
def test_the_older_formats_of_keras_2_load(tmp_path, name, scaled):
    """H5 files, and SavedModel directories, in which Keras 2's own optimizers lose it."""
    optimizer = tko.AdamW(
        tko.schedules.Warmup(tko.schedules.CosineDecay(0.25, 100), 2), use_ema=True
    )
    model, _ = harness.fit(tko.LossScaleOptimizer(optimizer) if scaled else optimizer)
    model.save(str(tmp_path / name))
    again = keras.models.load_model(str(tmp_path / name))
    assert type(again.optimizer) is type(model.optimizer)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    x, y = harness.classification_data()
    assert again.predict(x, verbose=0) == pytest.approx(model.predict(x, verbose=0), abs=1e-6)
    for _ in range(2):
        ours, other = model.optimizer.get_weights(), again.optimizer.get_weights()
        assert len(ours) == len(other) > 12
        for value, expected in zip(other, ours):
            assert (value == expected).all()
        for each in (model, again):
            each.fit(x, y, batch_size=8, shuffle=False, verbose=0)
