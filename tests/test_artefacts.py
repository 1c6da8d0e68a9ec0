"""Exported models as those who receive them use them: other tools, bad batches, no Python."""

import os
import subprocess
import sys

import harness
import lite
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras
layers = keras.layers


class Checked(layers.Layer):
    """Refuses large values, beside the flow of data."""

    def call(self, x):
        tf.debugging.assert_less(tf.reduce_max(x), 100.0)
        return x


class TwoClasses(keras.metrics.Mean):
    """Refuses a label that the loss takes; metrics come after the optimizer's step."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        tf.debugging.assert_less(tf.reduce_max(tf.cast(y_true, tf.int32)), 2)
        return super().update_state(y_pred)


def model_that_may_raise(optimizer):
    keras.utils.set_random_seed(0)
    ids = layers.Input((2,), dtype="int32", name="ids")
    values = layers.Input((3,), name="values")
    found = layers.Flatten()(layers.Embedding(5, 2)(ids))
    hidden = layers.Concatenate()([found, Checked()(values)])
    hidden = layers.BatchNormalization(center=False, scale=False)(hidden)
    sizes = {"o": 3, "p": 1}
    outputs = {n: layers.Dense(k, use_bias=False, name=n)(hidden) for n, k in sizes.items()}
    model = keras.Model({"ids": ids, "values": values}, outputs)
    losses = {"o": harness.classification_loss(), "p": "mse"}
    model.compile(optimizer, losses, metrics={"o": [TwoClasses()]}, jit_compile=False)
    return model


def good_batch():
    generator = np.random.default_rng(0)
    x = {
        "ids": generator.integers(0, 5, (4, 2)).astype("int32"),
        "values": generator.normal(size=(4, 3)).astype("f"),
    }
    return x, {"o": np.array([0, 1, 0, 1]), "p": generator.normal(size=(4, 1)).astype("f")}


def bad_batches():
    """Yields batches with a label, a value, a row and another label out of range."""
    for part, name, value in (
        (1, "o", 7), (0, "values", 1e3), (0, "ids", 77), (1, "o", 2),
    ):  # fmt: skip
        batch = good_batch()
        batch[part][name][0] = value
        yield batch


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("jit_compile", "steps", "scaled"),
    [(True, None, False), (False, 2, True)],
    ids=["kernels", "accumulated_scaled"],
)
def test_a_step_that_raises_leaves_the_optimizer_as_it_was(
    jit_compile, steps, scaled, tmp_path
):
    optimizer = tko.SGD(0.1, 0.9, gradient_accumulation_steps=steps, jit_compile=jit_compile)
    if scaled:
        optimizer = tko.LossScaleOptimizer(optimizer, initial_scale=8.0)
    model = model_that_may_raise(optimizer)
    tko.export_training(model, tmp_path / "m", jit_compile=None if jit_compile else False)
    again = tko.load_training(tmp_path / "m")
    losses = []
    for batch in bad_batches():
        losses.append(again.train_on_batch(*good_batch())["loss"])
        state = {**again.loaded.weights, **again.loaded.state}
        before = {name: v.numpy() for name, v in state.items() if "moving" not in name}
        assert len(before) >= 8
        with pytest.raises(tf.errors.InvalidArgumentError):
            again.train_on_batch(*batch)
        for name, value in before.items():
            np.testing.assert_array_equal(state[name].numpy(), value, err_msg=name)
    twin = tko.load_training(tmp_path / "m")
    assert losses == [twin.train_on_batch(*good_batch())["loss"] for _ in losses]
    assert len(set(losses)) == 4 // (steps or 1)


def line(optimizer):
    """A linear model, its kernel all ones."""
    dense = layers.Dense(2, use_bias=False, kernel_initializer="ones", name="line")
    model = keras.Sequential([layers.Input((3,)), dense])
    model.compile(optimizer, "mse", jit_compile=False)
    return model


@pytest.mark.one_keras
def test_the_command_line_of_tensorflow_trains(tmp_path):
    tko.export_training(line(tko.SGD(0.1)), tmp_path / "m")
    x = np.arange(6, dtype="f").reshape(2, 3)
    y = np.array([[1, 2], [3, 4]], "f")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    command = [
        "run", "--dir", tmp_path / "m", "--tag_set", "serve", "--signature_def", "train",
        "--inputs", f"x={tmp_path / 'x.npy'};y={tmp_path / 'y.npy'}",
        "--outdir", tmp_path / "out",
    ]  # fmt: skip
    tool = "tensorflow.python.tools.saved_model_cli"
    run = subprocess.run(
        [sys.executable, "-m", tool, *map(str, command)],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    expected = float(tf.reduce_mean((x @ np.ones((3, 2), "f") - y) ** 2))
    assert np.load(tmp_path / "out" / "loss.npy") == pytest.approx(expected, rel=1e-6)


@pytest.mark.one_keras(2)
def test_three_generations_train_as_one(tmp_path):
    """Loaded, trained and written again, by this package and by TensorFlow alone."""
    options = {"use_ema": True, "gradient_accumulation_steps": 2, "jit_compile": False}
    optimizer = tko.AdamW(tko.schedules.ExponentialDecay(0.1, 1, 0.5), **options)
    model = line(tko.LossScaleOptimizer(optimizer, initial_scale=8.0, dynamic_growth_steps=3))
    x, y = harness.classification_data(4 * 12)
    x, y = x[:, :3], np.stack([y, -y], -1).astype("f")
    batches = [(x[4 * i : 4 * i + 4], y[4 * i : 4 * i + 4]) for i in range(12)]
    path, losses = tmp_path / "0", []
    tko.export_training(model, path)
    for generation in range(3):
        loaded = tf.saved_model.load(str(path))
        for a, b in batches[4 * generation : 4 * generation + 4]:
            losses.append(
                loaded.signatures["train"](x=tf.constant(a), y=tf.constant(b))["loss"]
            )
        path = tmp_path / str(generation + 1)
        if generation % 2:
            tko.ExportedModel(loaded).export(path)
        else:
            tf.saved_model.save(loaded, str(path), signatures=dict(loaded.signatures))
    expected = []
    for a, b in batches:
        model.reset_metrics()
        expected.append(model.train_on_batch(a, b, return_dict=True)["loss"])
    np.testing.assert_array_equal(losses, expected)
    last = tf.saved_model.load(str(path))
    (kernel,) = last.weights.values()
    np.testing.assert_array_equal(kernel.numpy(), model.get_weights()[0])
    assert int(last.state["_iterations"].numpy()) == 12


@pytest.mark.one_keras  # what is converted is TensorFlow's graph, the same for both
@pytest.mark.parametrize("name", ["SGD", "Lamb"])
def test_which_optimizers_need_the_flex_delegate(name, tmp_path):
    """One of each kind; `python -m tests.lite` does it for all."""
    flex, there, here = lite.train(name, tmp_path)
    assert bool(flex) is (name in lite.NEED_FLEX)
    np.testing.assert_allclose(there, here, rtol=1e-5)
    assert flex or len(set(there)) == lite.STEPS
