"""Exported models train on, without Keras and without this package, bit for bit."""

import os
import pathlib
import random
import shutil
import subprocess
import sys

import harness
import numpy as np
import pytest
import resume
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state

HERE = pathlib.Path(__file__).parent
STEPS = 5
# One of each kind of state, which is exported by its kind, after some steps and before the
# first one: slots that start from zeros and from other numbers, a number for all variables,
# slots that follow the shape. Each Keras exports some.
CASES = [("Adagrad", "fresh"), ("Adafactor", "trained")]
if not harness.IS_KERAS_3:
    CASES = [("Nadam", "fresh"), ("Nadam", "trained")]
# Compiled, a wrapper with every option that stands around an update; loaded on another device.
COMPILED = {"xla device": True} if harness.IS_KERAS_3 else {"kernels device": False}


def make_model(optimizer, jit_compile=False):
    model = harness.small_model()
    model.compile(optimizer, harness.classification_loss(), jit_compile=jit_compile)
    return model


def train(model, begin, end):
    """Trains on some batches; returns the loss of each."""
    x, y = harness.classification_data(8 * 21)
    losses = []
    for step in range(begin, end):
        part = slice(8 * step, 8 * step + 8)
        model.reset_metrics()
        losses.append(model.train_on_batch(x[part], y[part], return_dict=True)["loss"])
    return np.array(losses, "f")


def result(model):
    weights = {f"weights/{v.path if hasattr(v, 'path') else v.name.split(':')[0]}": v.numpy()
               for v in model.variables}  # fmt: skip
    kept = state.by_name(model.optimizer)
    return weights | {f"state/{name}": value for name, value in kept.items()}


@pytest.fixture(scope="module")
def loops(tmp_path_factory):
    """By name: losses and variables of the loop here; and what the other process found."""
    directory = tmp_path_factory.mktemp("exported")
    x, y = harness.classification_data(8 * 21)
    expected, ranges = {}, {}
    for name, kind in CASES:
        model = make_model(resume.cases()[name]())
        begin = STEPS if kind == "trained" else 0
        train(model, 0, begin)
        tko.export_training(model, directory / name / kind)
        ranges[f"{name}/{kind}"] = (begin, begin + STEPS)
        expected[f"{name}/{kind}"] = train(model, begin, begin + STEPS), result(model)
    options = {"global_clipnorm": 0.5, "use_ema": True, "gradient_accumulation_steps": 2}
    options["weight_decay"] = 0.01
    for name, jit_compile in COMPILED.items():
        optimizer = tko.AdamW(tko.schedules.CosineDecay(0.05, 50), jit_compile=True, **options)
        optimizer = tko.LossScaleOptimizer(optimizer, initial_scale=8.0, dynamic_growth_steps=3)
        model = make_model(optimizer, jit_compile)
        begin = int(jit_compile)  # before and after the step was traced for training
        train(model, 0, begin)
        tko.export_training(model, directory / name)
        ranges[name] = (begin, begin + 20)
        expected[name] = train(model, begin, begin + 20), result(model)
    named = {f"range/{name}": value for name, value in ranges.items()}
    np.savez(directory / "data.npz", x=x, y=y, **named)
    run = subprocess.run(
        [sys.executable, str(HERE / "exported_loop.py"), str(directory)],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    with np.load(directory / "results.npz") as found:
        return expected, dict(found)


@pytest.mark.one_keras
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_five_steps_without_keras_are_the_five_steps_here(loops, name, kind):
    check(loops, f"{name}/{kind}")


@pytest.mark.parametrize("name", COMPILED)
def test_twenty_compiled_steps_without_keras_are_the_steps_here(loops, name):
    """Wherever they are exported, loaded and called."""
    check(loops, name)


def check(loops, name):
    losses, variables = loops[0][name]
    found = {
        k[len(name) + 1 :].replace("state/_", "state/"): v
        for k, v in loops[1].items()
        if k.startswith(f"{name}/")
    }
    np.testing.assert_array_equal(found.pop("losses"), losses)
    assert set(found) == set(variables)
    for path, value in variables.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)
    assert len(set(losses)) > 3


# Everything else in one model and one process.


@pytest.fixture(scope="module")
def exported(tmp_path_factory, request):
    """A model with dropout and a loss scale, and the directory it was exported to."""
    path = tmp_path_factory.mktemp("saved") / "model"
    keras = tf.keras
    keras.utils.set_random_seed(0)
    layers = keras.layers
    if not harness.IS_KERAS_3:  # else the state of dropout is in no variable
        keras.backend.experimental.enable_tf_random_generator()
        request.addfinalizer(keras.backend.experimental.disable_tf_random_generator)
    model = keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(6, activation="tanh", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.5, seed=1),
            layers.Dense(3),
        ]
    )
    optimizer = tko.LossScaleOptimizer(
        tko.Adam(tko.schedules.ExponentialDecay(0.1, 1, 0.5), gradient_accumulation_steps=2),
        initial_scale=16.0,
        dynamic_growth_steps=4,
    )
    model.compile(optimizer, harness.classification_loss(), metrics=["accuracy"])
    x, y = harness.classification_data(24)
    model.train_on_batch(x[:16], y[:16])
    model.reset_metrics()
    tko.export_training(model, path, jit_compile=False)
    return model, path


def test_signatures_and_names(exported):
    loaded = tf.saved_model.load(str(exported[1]))
    assert set(loaded.signatures) == {
        "train", "evaluate", "infer", "save", "restore", "get_learning_rate",
        "set_learning_rate", "reset_optimizer", "reset_metrics",
    }  # fmt: skip
    for name in ("train", "evaluate"):
        inputs = loaded.signatures[name].structured_input_signature[1]
        assert {k: (v.shape.as_list(), v.dtype) for k, v in inputs.items()} == {
            "x": ([None, 8], tf.float32),
            "y": ([None], tf.int64),
        }
        assert set(loaded.signatures[name].structured_outputs) == {"loss", "accuracy"}


def test_evaluation_and_inference_are_the_models(exported):
    model, path = exported
    again = tko.load_training(path)
    x, y = harness.classification_data(24)
    found = again.evaluate(x, y, batch_size=24)
    expected = model.evaluate(x, y, batch_size=24, verbose=0, return_dict=True)
    assert found == pytest.approx(expected, abs=1e-6)
    for size in (1, 7, 24):  # batches of any size
        outputs = model.predict(x[:size], verbose=0)
        np.testing.assert_allclose(again.predict(x[:size]), outputs, atol=1e-6)


def test_the_loop_of_the_convenience_object_learns(exported, capsys):
    again = tko.load_training(exported[1])
    x, y = harness.classification_data(64)
    before = again.evaluate(x, y)["loss"]
    history = again.fit(x, y, batch_size=8, epochs=3, seed=0, validation_data=(x, y))
    assert "Epoch 3/3" in capsys.readouterr().out
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history["val_loss"][-1] < before
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    assert again.fit(data, verbose=0)["loss"] != history["loss"][-1:]
    with pytest.raises(ValueError, match="take no `sample_weight`"):
        again.train_on_batch(x, y, np.ones(64))


def test_save_and_restore_bring_everything_back(exported, tmp_path):
    """Random generators, the loss scale, a half-filled accumulator: all of it."""
    again, x, y = tko.load_training(exported[1]), *harness.classification_data(24)
    again.train_on_batch(x, y)
    again.save(tmp_path / "step")
    first = [again.train_on_batch(x, y)["loss"] for _ in range(6)]
    assert len(set(map(float, first))) == 6
    for other in (again, tko.load_training(exported[1])):
        other.restore(tmp_path / "step")
        assert [other.train_on_batch(x, y)["loss"] for _ in range(6)] == first
    again.export(tmp_path / "again")
    third = tko.load_training(tmp_path / "again")
    assert third.train_on_batch(x, y)["loss"] == again.train_on_batch(x, y)["loss"]
    third.restore(tmp_path / "step")
    assert [third.train_on_batch(x, y)["loss"] for _ in range(6)] == first


def test_a_checkpoint_of_the_exported_model_goes_back_to_python(exported, tmp_path):
    model, path = exported
    again, (x, y) = tko.load_training(path), harness.classification_data(24)
    for _ in range(3):
        again.train_on_batch(x, y)
    again.save(tmp_path / "step")
    twin = tf.keras.models.clone_model(model)
    twin.compile(
        type(model.optimizer).from_config(model.optimizer.get_config()),
        harness.classification_loss(),
    )
    twin.optimizer.build(twin.trainable_variables)
    names = dict(zip(paths(model), paths(twin)))
    tko.load_state(tmp_path / "step", twin.optimizer, twin.variables, names=names)
    loaded = again.loaded
    for (_, variable), ours in zip(sorted(loaded.weights.items()), sorted_values(model, twin)):
        np.testing.assert_array_equal(variable.numpy(), ours)
    assert int(state.inner(twin.optimizer).state_dict()["scalars"]["iterations"]) == 4
    assert float(twin.optimizer.loss_scale) == 32.0


def paths(model):
    return [getattr(v, "path", None) or v.name.split(":")[0] for v in model.variables]


def sorted_values(model, twin):
    return [v.numpy() for _, v in sorted(zip(paths(model), twin.variables), key=lambda p: p[0])]


def test_the_learning_rate_is_the_schedules_times_a_factor(exported):
    again, (x, y) = tko.load_training(exported[1]), harness.classification_data(24)
    assert again.learning_rate == pytest.approx(0.1)
    again.learning_rate = 0.3
    assert again.learning_rate == pytest.approx(0.3)
    for _ in range(2):
        again.train_on_batch(x, y)
    assert again.learning_rate == pytest.approx(0.15)
    with pytest.raises(tf.errors.InvalidArgumentError, match="finite number of at least 0"):
        again.learning_rate = float("nan")
    assert again.learning_rate == pytest.approx(0.15)


def test_the_optimizer_can_be_reset(exported):
    again, (x, y) = tko.load_training(exported[1]), harness.classification_data(24)
    again.learning_rate = 0.3
    for _ in range(5):
        again.train_on_batch(x, y)
    state = again.loaded.state
    assert float(state["_dynamic_scale"].numpy()) == 32.0
    again.reset_optimizer()
    assert again.learning_rate == pytest.approx(0.3)
    factor = state.pop("_learning_rate_multiplier").numpy()
    assert factor == pytest.approx(3.0)
    assert float(state.pop("_dynamic_scale").numpy()) == 16.0
    assert len(state) > 10
    for name, variable in state.items():
        assert not np.any(variable.numpy()), name


def test_damaged_and_foreign_checkpoints_change_nothing(exported, tmp_path):
    again, (x, y) = tko.load_training(exported[1]), harness.classification_data(24)
    again.save(tmp_path / "good")
    again.train_on_batch(x, y)
    before = {n: v.numpy() for n, v in {**again.loaded.weights, **again.loaded.state}.items()}
    data = tmp_path / "good.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    other = make_model(tko.Adam(0.1))
    tko.export_training(other, tmp_path / "other")
    tko.load_training(tmp_path / "other").save(tmp_path / "foreign")
    content[-10] ^= 8
    data.write_bytes(bytes(content))
    os.mkfifo(tmp_path / "pipe.index")
    for name in ("good", "foreign", "pipe"):
        with pytest.raises(ValueError, match=f"{name}.*(cannot be read as|not) a checkpoint"):
            again.restore(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="missing"):
        again.restore(tmp_path / "missing")
    now = {n: v.numpy() for n, v in {**again.loaded.weights, **again.loaded.state}.items()}
    for name, value in before.items():
        np.testing.assert_array_equal(now[name], value)


def test_nested_inputs_sample_weights_and_a_loss_of_ones_own(tmp_path):
    keras = tf.keras
    inputs = {n: keras.layers.Input((2,), name=n) for n in ("left", "right")}
    hidden = keras.layers.Concatenate()(list(inputs.values()))
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(hidden)
    model = keras.Model(inputs, outputs)
    model.compile(tko.SGD(0.1), loss="mae", jit_compile=False)
    spec = tf.TensorSpec([None, 2])
    signature = ({n: spec for n in inputs}, tf.TensorSpec([None, 1]), tf.TensorSpec([None]))

    def squared(y, output):
        return (y - output)[:, 0] ** 2

    tko.export_training(model, tmp_path / "m", loss=squared, input_signature=signature)
    again = tko.load_training(tmp_path / "m")
    assert again.input_names == ["left", "right"]
    x = {"left": np.array([[1.0, 2.0]], "f"), "right": np.array([[3.0, 4.0]], "f")}
    # The output is 10, the error 2, weighted 0.5: loss 2, gradient 2 * 2 * 0.5 * x.
    logs = again.train_on_batch(x, np.array([[8.0]], "f"), np.array([0.5], "f"))
    assert logs == {"loss": pytest.approx(2.0)}
    (kernel,) = again.loaded.weights.values()
    np.testing.assert_allclose(kernel.numpy()[:, 0], [0.8, 0.6, 0.4, 0.2], rtol=1e-6)
    with pytest.raises(ValueError, match=r"must have the names left, right\. Received: left"):
        again.predict({"left": x["left"]})


def test_a_train_step_of_ones_own(tmp_path):
    """What a subclass overrides is what is exported."""

    class Doubling(tf.keras.Sequential):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x, training=True) - 2.0 * y) ** 2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            return {"loss": loss, "doubled": 2.0 * loss}

    start = tf.keras.initializers.Constant(1.0)
    model = Doubling(
        [tf.keras.layers.Input((1,)), tf.keras.layers.Dense(1, kernel_initializer=start)]
    )
    model.compile(tko.SGD(0.1), loss="mse", jit_compile=False)
    tko.export_training(model, tmp_path / "m")
    logs = tko.load_training(tmp_path / "m").train_on_batch(np.ones((2, 1)), np.ones((2, 1)))
    assert logs == {"loss": pytest.approx(1.0), "doubled": pytest.approx(2.0)}


def test_what_cannot_be_exported_is_refused(tmp_path, strategy):
    model = make_model(tf.keras.optimizers.Adam())
    with pytest.raises(TypeError, match="compiled with an optimizer of tf_keras_optim"):
        tko.export_training(model, tmp_path / "m")
    model.compile(tko.Adam(), "mse")
    cases = [
        ("text", "must be \\(x, y\\)"),
        ((8, tf.TensorSpec([None])), "'x' of `input_signature` must be a tf.TensorSpec"),
        (({"y": tf.TensorSpec([None, 8])}, tf.TensorSpec([None])), "would be called 'y'"),
    ]
    for signature, message in cases:
        with pytest.raises(ValueError, match=message):
            tko.export_training(model, tmp_path / "m", input_signature=signature)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        tko.export_training(model, tmp_path / "m")
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"
    unbuilt = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    unbuilt.compile(tko.Adam(), "mse")
    with pytest.raises(ValueError, match="is not built"):
        tko.export_training(unbuilt, tmp_path / "n")
    with strategy.scope():
        spread = make_model(tko.Adam())
    with pytest.raises(ValueError, match="has 2 replicas"):
        tko.export_training(spread, tmp_path / "n")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_what_was_not_exported_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no SavedModel"):
        tko.load_training(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "plain"))
    with pytest.raises(ValueError, match="was not written by tf_keras_optim"):
        tko.load_training(tmp_path / "plain")


@pytest.mark.one_keras(2)
def test_a_hundred_damaged_directories_are_refused(plain, tmp_path):
    generator, source = random.Random(3), plain[1]
    tko.load_training(source)
    files = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    assert len(files) >= 4
    target = tmp_path / "m"
    shutil.copytree(source, target)
    for turn in range(100):
        path, other = (generator.choice(files) for _ in range(2))
        content = bytearray((source / path).read_bytes())
        kind = turn % 4
        if kind == 0 and content:
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        elif kind == 1 and content:
            content = content[: generator.randrange(len(content))]
        elif kind == 2 and (source / other).read_bytes() != content:
            content = bytearray((source / other).read_bytes())
        else:
            content = None
        if content is None:
            (target / path).unlink()
        else:
            (target / path).write_bytes(bytes(content))
        same = content is not None and content == (source / path).read_bytes()
        assert not same
        with pytest.raises((ValueError, FileNotFoundError), match=str(target)):
            tko.load_training(target)
        (target / path).write_bytes((source / path).read_bytes())
    assert tko.load_training(target).input_names == ["x"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A linear model with static batches, whose steps TFLite knows, exported."""
    path = tmp_path_factory.mktemp("lite") / "model"
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.layers.Input((8,)), tf.keras.layers.Dense(1)])
    model.compile(tko.Adam(0.05), "mse", jit_compile=False)
    signature = (tf.TensorSpec([8, 8]), tf.TensorSpec([8, 1]))
    tko.export_training(model, path, input_signature=signature, jit_compile=False)
    return model, path


@pytest.mark.one_keras(2)
def test_a_device_trains_as_python_does(plain, tmp_path):
    model, path = plain
    assert tko.export_tflite(path, tmp_path / "all.tflite") == ["RestoreV2", "SaveV2"]
    target = tmp_path / "m.tflite"
    assert tko.export_tflite(path, target, ["train", "infer", "evaluate"]) == []
    interpreter = tf.lite.Interpreter(model_path=str(target))
    step = interpreter.get_signature_runner("train")
    x, y = harness.classification_data(80)
    y = y[:, None].astype("f")
    for i in range(10):
        part = slice(8 * i, 8 * i + 8)
        model.reset_metrics()
        expected = model.train_on_batch(x[part], y[part], return_dict=True)["loss"]
        assert step(x=x[part], y=y[part])["loss"] == pytest.approx(expected, rel=1e-5)
    outputs = interpreter.get_signature_runner("infer")(x=x[:8])["output"]
    np.testing.assert_allclose(outputs, model.predict(x[:8], verbose=0), atol=1e-5)


@pytest.mark.one_keras(2)
def test_compiled_functions_are_not_for_devices(plain, tmp_path):
    with pytest.raises(ValueError, match="has no signature tune"):
        tko.export_tflite(plain[1], tmp_path / "m.tflite", ["tune"])
    with pytest.raises(FileNotFoundError, match="no SavedModel"):
        tko.export_tflite(tmp_path, tmp_path / "m.tflite")
    model = make_model(tko.SGD(0.1, jit_compile=True))
    tko.export_training(model, tmp_path / "compiled")
    with pytest.raises(ValueError, match="XLA compiles"):
        tko.export_tflite(tmp_path / "compiled", tmp_path / "m.tflite")
    assert not (tmp_path / "m.tflite").exists()
