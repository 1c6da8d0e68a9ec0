"""What a file names is neither imported nor called: only what the caller knows is made."""

import hashlib
import io
import json
import sys
import zipfile

import h5py
import harness
import numpy as np
import pytest

import tf_keras_optim as tko
from tf_keras_optim.command_line.main import main
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.saving import checksums

HOSTILE = "module_that_a_file_names"


@pytest.fixture(autouse=True)
def hostile_module(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported, and when something in it is called."""
    source = (
        "import pathlib\n"
        f"MARK = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "MARK.write_text('imported')\n"
        "class X:\n"
        "    @classmethod\n"
        "    def from_config(cls, *args, **kwargs):\n"
        "        MARK.write_text('called')\n"
        "        return 0.1\n"
        "def f(*args, **kwargs):\n"
        "    MARK.write_text('called')\n"
        "    return 0.1\n"
    )
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"{HOSTILE}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    yield tmp_path / "mark"
    assert sys.modules.pop(HOSTILE, None) is None
    assert not (tmp_path / "mark").exists()


def described(name="X", module=HOSTILE, registered=None):
    found = {"module": module, "class_name": name, "config": {}}
    return found if registered is None else found | {"registered_name": registered}


def function(name="f", module=HOSTILE):
    return {"module": module, "class_name": "function", "config": name}


HOSTILES = [
    described(),
    described(registered="X"),
    described(registered="package>X"),
    function(),
    function() | {"registered_name": "f"},
    described("get_file", "keras.utils"),
    function("get_file", "keras.utils"),
    described("load_model", "keras.models"),
    {"class_name": "deserialize", "config": {"config": 1}},
    {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}},
    {"class_name": ["X"], "config": {}},
    {"config": {}},
]


def refused(call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("hostile", HOSTILES, ids=range(len(HOSTILES)))
def test_no_config_imports_or_calls_what_it_names(hostile):
    nested = {
        "module": "tf_keras_optim.schedules.combined",
        "class_name": "Warmup",
        "registered_name": "tf_keras_optim>Warmup",
        "config": {"after": hostile, "steps": 3},
    }
    several = nested | {
        "class_name": "Join",
        "registered_name": "tf_keras_optim>Join",
        "config": {"schedules": [0.1, hostile], "boundaries": [3]},
    }
    for value in (hostile, nested, several):
        refused(lambda v=value: tko.Adam.from_config({"learning_rate": v}))
        refused(lambda v=value: tko.schedules.deserialize(v))
        refused(lambda v=value: tko.AdamW.from_config({"weight_decay": v}))
        refused(
            lambda v=value: tko.deserialize({"class_name": "SGD", "config": {"momentum": v}})
        )
    refused(lambda: tko.Adam.from_config({"gradient_reducer": hostile}))
    refused(lambda: tko.deserialize(hostile))
    refused(lambda: tko.get(hostile))
    refused(lambda: tko.LossScaleOptimizer.from_config({"inner_optimizer": hostile}))


def test_keras_finds_no_way_past_our_classes():
    """What Keras does with a saved optimizer of ours, in its newer and its older form."""
    for value in HOSTILES[:5]:
        config = keras.saving.serialize_keras_object(tko.Adam())
        config["config"]["learning_rate"] = value
        refused(lambda c=config: keras.saving.deserialize_keras_object(c))
        refused(lambda c=config: keras.optimizers.deserialize(c))
        scaled = keras.saving.serialize_keras_object(tko.LossScaleOptimizer(tko.Adam()))
        scaled["config"]["inner_optimizer"] = value
        refused(lambda c=scaled: keras.saving.deserialize_keras_object(c))
        older = {"class_name": "tf_keras_optim>Adam", "config": dict(config["config"])}
        if not harness.IS_KERAS_3:
            refused(lambda c=older: keras.optimizers.deserialize(c, use_legacy_format=True))


@keras.saving.register_keras_serializable("test_untrusted")
def registered_rate():
    return 0.25


@keras.saving.register_keras_serializable("test_untrusted")
class Registered(tko.schedules.Schedule):
    def value(self, step):
        return 0.5 + step


class Passed(tko.schedules.Schedule):
    def value(self, step):
        return 0.75 + step


class OwnOptimizer(tko.SGD):
    pass


def test_what_the_caller_knows_is_made():
    for source, rate in ((registered_rate, 0.25), (Registered(), 0.5)):
        again = tko.deserialize(json.loads(json.dumps(tko.serialize(tko.Adam(source)))))
        assert again.current_learning_rate == rate
    theirs = keras.optimizers.schedules.CosineDecay(0.125, 10)
    warm = tko.schedules.Warmup(theirs, 4)
    again = tko.schedules.deserialize(tko.schedules.serialize(warm))
    assert float(again(2)) == float(warm(2))
    assert type(tko.Adam.from_config(tko.Adam(theirs).get_config()).learning_rate)
    config = {"class_name": "Passed", "module": "elsewhere", "config": {}}
    known = {"Passed": Passed}
    found = tko.deserialize({"class_name": "Adam", "config": {"learning_rate": config}}, known)
    assert found.current_learning_rate == 0.75
    with keras.saving.custom_object_scope(known):
        assert tko.Adam.from_config({"learning_rate": config}).current_learning_rate == 0.75
    wrapped = tko.serialize(tko.LossScaleOptimizer(OwnOptimizer(0.5)))
    inner = tko.deserialize(wrapped, {"OwnOptimizer": OwnOptimizer}).inner_optimizer
    assert type(inner) is OwnOptimizer
    with pytest.raises(ValueError, match="custom_objects"):
        tko.deserialize(wrapped)


def changed(path, change):
    """Rewrites the config of the model in a file."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(members["config.json"])
        change(config)
        members["config.json"] = json.dumps(config).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return
    with h5py.File(path, "a") as file:
        config = {"compile_config": json.loads(file.attrs["training_config"])}
        optimizer = config["compile_config"]
        optimizer["optimizer"] = optimizer.get("optimizer_config")
        change(config)
        optimizer["optimizer_config"] = optimizer.pop("optimizer")
        file.attrs["training_config"] = json.dumps(optimizer)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_of_keras_import_nothing(tmp_path, suffix, capsys):
    """The rate of the optimizer, the optimizer itself, and a layer of the model."""
    model, _ = harness.fit(keras.optimizers.Adam(0.01), epochs=1)

    def rate(config, value):
        config["compile_config"]["optimizer"]["config"]["learning_rate"] = value

    def optimizer(config, value):
        config["compile_config"]["optimizer"] = value

    def layer(config, value):
        config["config"]["layers"][1] = value

    places = [rate, optimizer, *[layer] * (suffix == ".keras")]
    for number, (place, value) in enumerate((p, v) for p in places for v in HOSTILES[:5]):
        path = tmp_path / f"{number}{suffix}"
        model.save(str(path))
        changed(path, lambda config, p=place, v=value: p(config, v))
        if place is not layer:
            text = refused(lambda p=path: tko.convert(p, model.trainable_variables))
            assert path.name in text
        output = str(tmp_path / "state.npz")
        assert main(["convert", str(path), output]) == 2
        assert path.name in capsys.readouterr().err
        # What counts more than the file's is taken instead of it.
        if place is rate:
            made = tko.convert(path, model.trainable_variables, learning_rate=0.5)
            assert made.current_learning_rate == 0.5


def test_our_own_files_import_nothing(tmp_path):
    """`load_model` of a file whose checksum was made for what it names."""
    model, _ = harness.fit(tko.Adam(0.01), epochs=1)
    for number, value in enumerate(HOSTILES[:5]):
        for place in ("rate", "layer", "loss"):
            plain = tmp_path / f"plain{number}{place}.keras"
            model.save(str(plain))

            def change(config, place=place, value=value):
                if place == "rate":
                    config["compile_config"]["optimizer"]["config"]["learning_rate"] = value
                elif place == "loss":
                    config["compile_config"]["loss"] = value
                else:
                    config["config"]["layers"][1] = value

            changed(plain, change)
            path = tmp_path / f"{number}{place}.keras"
            content = plain.read_bytes()
            line = checksums.MARK + hashlib.sha256(content).hexdigest().encode()
            path.write_bytes(content + line)
            assert path.name in refused(lambda p=path: tko.load_model(p))


def test_a_model_of_known_parts_loads(tmp_path):
    """Layers of one's own, registered or passed, and losses by function."""

    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2.0 * x

    model = keras.Sequential(
        [keras.layers.Input((3,)), Doubled(), keras.layers.Dense(2, activation="relu")]
    )
    model.compile(tko.Adam(tko.schedules.Warmup(0.1, 3)), keras.losses.mean_squared_error)
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    tko.save_model(model, tmp_path / "m.keras")
    again = tko.load_model(tmp_path / "m.keras", custom_objects={"Doubled": Doubled})
    for ours, other in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(ours, other)
    with pytest.raises(ValueError, match=r"m\.keras.*Doubled"):
        tko.load_model(tmp_path / "m.keras")


def test_bytes_are_not_opened_as_pickle(tmp_path):
    path = tmp_path / "state.npz"
    buffer = io.BytesIO()
    np.savez(buffer, **{"0": np.array([{"x": 1}], dtype=object)})
    path.write_bytes(buffer.getvalue())
    assert path.name in refused(lambda: tko.load_state(path, tko.Adam()))
