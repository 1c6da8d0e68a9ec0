"""State files: whole or not at all, and nothing damaged is ever taken for state."""

import io
import os
import pathlib
import random
import subprocess
import sys
import zipfile

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.state import assert_equal
from tests.support.steps import train, trained, variables

HERE = pathlib.Path(__file__).parent


@pytest.mark.one_keras
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_file_brings_back_weights_and_state(tmp_path, built, scaled):
    def make():
        inner = tko.Nadam(0.1, use_ema=True, slot_dtype="bfloat16")
        return tko.LossScaleOptimizer(inner, initial_scale=4.0) if scaled else inner

    source, target = make(), make()
    first = trained(source, "net/a", "b")
    path = tmp_path / "state.npz"
    tko.save_state(path, source, first)
    assert list(tmp_path.iterdir()) == [path]
    second = variables("net/a", "b")
    if built:
        target.build(second)
    assert tko.load_state(path, target, second).waiting is not built
    train(source, first)
    train(target, second)
    for v, w in zip(first, second):
        np.testing.assert_array_equal(v.numpy(), w.numpy())
    assert_equal(target.state_dict(), source.state_dict())


def test_weights_that_do_not_fit_are_refused(tmp_path):
    source, target = tko.Adam(0.1), tko.Adam(0.2)
    first = trained(source, "a", "b")
    path = tmp_path / "state.npz"
    tko.save_state(path, source, first)
    second = variables("a", "c")
    target.build(second)
    before = target.state_dict()
    with pytest.raises(ValueError, match=r"state.npz.*\n  c \(2,\): not saved\n  b \(2,\)"):
        tko.load_state(path, target, second)
    (narrow,) = (tf.Variable([0.0, 0.0], name="b", dtype=tf.bfloat16),)
    with pytest.raises(ValueError, match="b: here bfloat16, saved float32"):
        tko.load_state(path, target, [*second[:1], narrow])
    assert_equal(target.state_dict(), before)
    assert second[0].numpy().tolist() == [1.0, 2.0]
    # The weights fit, the state does not: neither is changed.
    wrong = tko.SGD()
    wrong.build(first)
    kept = [v.numpy() for v in first]
    for v in first:
        v.assign_add([1.0, 1.0])
    with pytest.raises(ValueError, match="saved by 'Adam', here 'SGD'"):
        tko.load_state(path, wrong, first)
    for v, value in zip(first, kept):
        np.testing.assert_array_equal(v.numpy(), value + 1.0)
    names = {"b": "c"}
    assert tko.load_state(path, target, second, names=names).fits
    np.testing.assert_array_equal(second[1].numpy(), kept[1])


def test_what_is_no_optimizer_and_what_is_no_file(tmp_path):
    with pytest.raises(TypeError, match="takes an optimizer of tf_keras_optim"):
        tko.save_state(tmp_path / "x", tf.keras.optimizers.Adam())
    wrapped = tf.keras.mixed_precision.LossScaleOptimizer(tko.Adam())
    if not isinstance(wrapped, tko.LossScaleOptimizer):  # as it is after `tko.install()`
        with pytest.raises(TypeError, match=r"Keras' own.*give `optimizer.inner_optimizer`"):
            tko.load_state(tmp_path / "x", wrapped)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tko.load_state(tmp_path / "nowhere.npz", tko.Adam())
    with pytest.raises(FileNotFoundError):
        tko.save_state(tmp_path / "no" / "directory.npz", tko.Adam())


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_state_in_a_file_of_keras_can_be_taken_over(tmp_path, suffix, scaled):
    """A schedule for a number, and an average more: the moments stay."""
    path = str(tmp_path / f"x{suffix}")
    source = tko.Adam(0.05)
    model, _ = harness.fit(tko.LossScaleOptimizer(source) if scaled else source)
    (model.save if suffix == ".keras" else model.save_weights)(path)
    saved = model.optimizer.state_dict()
    target = tko.Adam(tko.schedules.CosineDecay(0.1, 100), use_ema=True)
    if scaled:
        target = tko.LossScaleOptimizer(target)
    target.build(model.trainable_variables)
    with pytest.raises(ValueError, match="keep_hyperparameters"):
        tko.load_state(path, target)
    report = tko.load_state(path, target, strict=False, keep_hyperparameters=True)
    assert [line.split()[1] for line in report.missing] == ["average"] * 4
    after = target.state_dict()
    for name, slots in saved["variables"].items():
        for slot, value in slots.items():
            np.testing.assert_array_equal(after["variables"][name][slot], value)
    assert int(after["scalars"]["iterations"]) == 8


def foreign(tmp_path):
    """Files that are something else."""
    other = {"empty": b"", "text": b"not a state\n" * 50, "zip": io.BytesIO()}
    with zipfile.ZipFile(other["zip"], "w") as archive:
        archive.writestr("a.txt", "x")
    other["zip"] = other["zip"].getvalue()
    arrays = io.BytesIO()
    np.savez(arrays, a=np.ones(3), b=np.array({"x": 1}, dtype=object))
    other["npz"] = arrays.getvalue()
    for name, content in other.items():
        path = tmp_path / f"foreign_{name}.npz"
        path.write_bytes(content)
        yield path
    with open(tmp_path / "foreign.weights.h5", "wb") as file:
        file.write(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    yield tmp_path / "foreign.weights.h5"
    keras_own, _ = harness.fit(tf.keras.optimizers.Adam())
    keras_own.save_weights(str(tmp_path / "own.weights.h5"))
    yield tmp_path / "own.weights.h5"


def test_foreign_files_are_refused_by_name_and_reason(tmp_path):
    optimizer = tko.Adam()
    trained(optimizer, "a")
    before = optimizer.state_dict()
    for path in foreign(tmp_path):
        with pytest.raises(ValueError, match=f"{path.name}.*cannot be read as the state"):
            tko.load_state(path, optimizer)
    assert_equal(optimizer.state_dict(), before)


def damaged(content, generator):
    """Bytes with some flipped, cut off, doubled or overwritten."""
    kind = generator.choice(["flip", "flip", "flip", "cut", "zero", "swap"])
    content = bytearray(content)
    place = generator.randrange(len(content))
    if kind == "flip":
        for _ in range(generator.choice([1, 1, 8])):
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "zero":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    else:
        other = generator.randrange(len(content))
        content[place], content[other] = content[other], content[place]
    return bytes(content)


@pytest.mark.one_keras
def test_damaged_state_files_raise_or_load_exactly(tmp_path):
    """A hundred seeded damages: never half a state, never another error."""
    source, target = tko.Adam(0.1, use_ema=True), tko.Adam(0.2, use_ema=True)
    first = trained(source, "net/a", "b")
    good, path = tmp_path / "good.npz", tmp_path / "bad.npz"
    tko.save_state(good, source, first)
    content, expected = good.read_bytes(), source.state_dict()
    second = variables("net/a", "b")
    target.build(second)
    untouched, generator, refused = target.state_dict(), random.Random(5), 0
    for _ in range(100):
        path.write_bytes(damaged(content, generator))
        try:
            tko.load_state(path, target, second)
        except ValueError as error:
            assert str(path) in str(error)
            assert_equal(target.state_dict(), untouched)
            assert [v.numpy().tolist() for v in second] == [[1.0, 2.0]] * 2
            refused += 1
        else:
            assert_equal(target.state_dict(), expected)
            for v, w in zip(first, second):
                np.testing.assert_array_equal(v.numpy(), w.numpy())
                w.assign([1.0, 2.0])
            target.load_state_dict(untouched)
    assert refused >= 80  # what is not: bytes of the archive that mean nothing


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_damaged_keras_files_raise_or_load_exactly(tmp_path, suffix):
    """HDF5 alone loads most of them, and crashes on some."""
    good, path = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}"
    model, _ = harness.fit(tko.Adam(0.05))
    target = harness.small_model(seed=1)
    target.compile(tko.Adam(0.05), harness.classification_loss())
    target.optimizer.build(target.trainable_variables)
    untouched = [target.get_weights(), target.optimizer.get_weights()]

    def load():
        if suffix == ".keras":
            return tko.load_model(path)
        tko.load_weights(target, path)
        return target

    (tko.save_model if suffix == ".keras" else tko.save_weights)(model, good)
    assert list(tmp_path.iterdir()) == [good]
    content, generator = good.read_bytes(), random.Random(6)
    for _ in range(100):
        path.write_bytes(damaged(content, generator))
        if path.read_bytes() == content:
            continue  # equal bytes were swapped
        with pytest.raises(ValueError, match=f"bad{suffix}.*(truncated|is damaged)"):
            load()
    now = [target.get_weights(), target.optimizer.get_weights()]
    for before, after in zip(untouched, now):
        for one, other in zip(before, after):
            np.testing.assert_array_equal(one, other)
    path.write_bytes(content)
    for again in (load(), *([] if suffix == ".keras" else [plain(target, path)])):
        for one, other in zip(model.get_weights(), again.get_weights()):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(model.optimizer.get_weights(), again.optimizer.get_weights()):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="must end in"):
        tko.save_model(model, tmp_path / "x.h5")
    model.save_weights(str(tmp_path / "plain.weights.h5"))
    with pytest.raises(ValueError, match="was not written by tf_keras_optim"):
        tko.load_weights(target, tmp_path / "plain.weights.h5")


def plain(model, path):
    """Keras itself reads the file as well."""
    model.load_weights(str(path))
    return model


def test_what_an_hdf5_file_lost_is_noticed(tmp_path):
    """Without the checksum of the file there are those of the arrays."""
    import h5py

    path = str(tmp_path / "x.weights.h5")
    model, _ = harness.fit(tko.Adam(0.05))
    model.save_weights(path)
    before = model.optimizer.get_weights()

    def change(file):
        group = file["optimizer/vars"]
        yield "should be", lambda: group["3"].__setitem__((0,) * group["3"].ndim, 7.0)
        yield "lost their notes", lambda: group["2"].attrs.__delitem__("tf_keras_optim")
        yield "cannot be read", lambda: group["4"].attrs.__setitem__("tf_keras_optim", "{")

    for i in range(3):
        model.save_weights(path)
        with h5py.File(path, "a") as file:
            message, act = list(change(file))[i]
            act()
        with pytest.raises(Exception, match=f"state is damaged.*{message}"):
            model.load_weights(path)
        for one, other in zip(before, model.optimizer.get_weights()):
            np.testing.assert_array_equal(one, other)


@pytest.mark.one_keras
def test_damaged_checkpoints_raise_or_load_exactly(tmp_path):
    """TensorFlow keeps checksums of its own."""
    source, target = tko.Adam(0.1), tko.Adam(0.1)
    first, second = trained(source, "a", "b"), variables("a", "b")
    target.build(second)
    prefix = tf.train.Checkpoint(optimizer=source, v=first).write(str(tmp_path / "c"))
    generator, refused = random.Random(7), 0
    expected = source.state_dict()
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    for path in files:
        for _ in range(50):
            path.write_bytes(damaged(files[path], generator))
            try:
                status = tf.train.Checkpoint(optimizer=target, v=second).restore(prefix)
                status.assert_consumed()
            except (tf.errors.OpError, IndexError, AssertionError, ValueError):
                refused += 1
            else:
                assert_equal(target.state_dict(), expected)
            path.write_bytes(files[path])
    assert refused >= 80


@pytest.mark.one_keras
def test_twenty_kills_while_training_and_saving_change_nothing(tmp_path):
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    run = subprocess.run(
        [sys.executable, str(HERE / "killed.py"), str(tmp_path), "--kills=20"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    assert run.stdout.count("killed at random") == 20
    assert run.stdout.count("resumed, equal") >= 17  # four are killed while they start


@pytest.mark.parametrize(
    "make",
    [
        lambda: tko.Nadam(0.05, use_ema=True, jit_compile=False),
        lambda: tko.AdamW(0.05, groups={"bias": tko.Lion(0.01)}, jit_compile=False),
        lambda: tko.LossScaleOptimizer(
            tko.Adam(0.05, gradient_accumulation_steps=2, jit_compile=False)
        ),
    ],
    ids=["averages", "groups", "scale"],
)
def test_a_whole_model_in_hdf5_trains_on(tmp_path, make):
    """Keras 3 builds the optimizer without variables, and gives it all arrays then."""
    keras = tf.keras
    layers = keras.layers
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    model.compile(make(), keras.losses.MeanSquaredError(), jit_compile=False)
    generator = np.random.default_rng(0)
    x, y = (generator.normal(size=(8, n)).astype("f") for n in (3, 2))

    def fit(model):
        model.fit(x, y, batch_size=2, epochs=1, shuffle=False, verbose=0)

    fit(model)
    model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    fit(model)
    fit(loaded)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_equal(model.optimizer.state_dict(), loaded.optimizer.state_dict())
