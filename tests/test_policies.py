"""State that is loaded under another dtype policy than it was saved under."""

import contextlib
import pickle

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras
IS_KERAS_3 = keras.__name__.startswith("keras")
X = np.random.default_rng(0).normal(size=(8, 4)).astype("f")


@contextlib.contextmanager
def policy(name):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def model_of(wrapped=False):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(3, name="hidden"), keras.layers.Dense(1, name="head")]
    model = keras.Sequential([keras.layers.Input((4,)), *layers])
    optimizer = tko.Adam(0.01, jit_compile=False)
    if wrapped:
        optimizer = tko.LossScaleOptimizer(optimizer, 64.0)
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


def inner(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def load_weights(model, directory, wrapped):
    model.save_weights(str(directory / "x.weights.h5"))

    def load():
        other = model_of(wrapped)
        other.load_weights(str(directory / "x.weights.h5"))
        other.optimizer.build(other.trainable_variables)
        return other

    return load


def load_model(name):
    def save(model, directory, wrapped):
        model.save(str(directory / name))
        return lambda: keras.models.load_model(str(directory / name))

    return save


def load_pickle(model, directory, wrapped):
    data = pickle.dumps(model)
    return lambda: pickle.loads(data)


WAYS = {
    "weights": load_weights,
    "model": load_model("x.keras"),
    "pickle": load_pickle,
    "h5": load_model("x.h5"),
    "directory": load_model("x"),
}
NAMES = ("float32", "mixed_float16", "mixed_bfloat16")


@pytest.mark.one_keras
@pytest.mark.parametrize("way", list(WAYS)[: 3 if IS_KERAS_3 else 5])
@pytest.mark.parametrize(
    ("saved", "loaded", "wrapped"),
    [
        ("mixed_float16", "float32", False),
        ("mixed_float16", "float32", True),
        ("float32", "mixed_float16", False),
        *([] if IS_KERAS_3 else [("mixed_float16", "mixed_float16", False)]),
    ],
)
def test_the_state_is_taken_over(tmp_path, saved, loaded, wrapped, way):
    with policy(saved):
        model = model_of(wrapped)
        model.fit(X, X[:, :1], batch_size=4, verbose=0)
        model.optimizer.learning_rate = 0.02
        load = WAYS[way](model, tmp_path, wrapped)
    with policy(loaded):
        other = load()
        found, expected = (inner(m).state_dict() for m in (other, model))
        assert isinstance(inner(other), tko.Adam)
        count = int(
            inner(model).iterations
        )  # Keras' scale may begin with a step that is skipped
        assert count > 0
        assert int(found["scalars"]["iterations"]) == count
        assert float(inner(other).learning_rate) == np.float32(
            0.02 if IS_KERAS_3 or way != "weights" else 0.01  # Keras 2's files have no rate
        )
        pairs = zip(found["variables"].values(), expected["variables"].values(), strict=True)
        for slots, others in pairs:
            for name in ("momentum", "velocity"):
                assert slots[name].any()
                np.testing.assert_array_equal(slots[name], others[name])
        other.fit(X, X[:, :1], batch_size=4, verbose=0)
        assert int(inner(other).iterations) > count


def test_narrow_weights_come_and_go_with_their_copies(tmp_path):
    for saved, loaded in (
        ("bfloat16", "float32"),
        ("float64", "float32"),
        ("float32", "bfloat16"),
    ):
        if not IS_KERAS_3 and saved == "bfloat16":
            continue  # Keras 2 cannot read bfloat16 from HDF5
        with policy(saved):
            model = model_of()
            model.fit(X, X[:, :1], batch_size=4, verbose=0)
            load = load_weights(model, tmp_path, False)
        with policy(loaded):
            other = load()
        found, expected = (
            list(inner(m).state_dict()["variables"].values()) for m in (other, model)
        )
        for slots, others in zip(found, expected, strict=True):
            np.testing.assert_array_equal(slots["momentum"], others["momentum"].astype("f"))
        assert int(other.optimizer.iterations) == 2
        other.fit(X, X[:, :1], batch_size=4, verbose=0)
        assert all(np.isfinite(w.astype("f")).all() for w in other.get_weights())


def around(kind, optimizer):
    """An optimizer without a wrapper, in this package's, or in Keras' own."""
    if kind == "plain":
        return optimizer
    if kind == "ours":
        return tko.LossScaleOptimizer(optimizer, 64.0)
    module = keras.optimizers if IS_KERAS_3 else keras.mixed_precision
    return module.LossScaleOptimizer(optimizer, initial_scale=64.0)


KINDS = ("plain", "ours", "keras")


@pytest.mark.parametrize("here", KINDS)
@pytest.mark.parametrize("there", KINDS)
def test_checkpoints_with_and_without_a_wrapper(there, here, tmp_path):
    v, w = tf.Variable([1.0, 1.0], name="v"), tf.Variable([1.0, 1.0], name="v")
    source, target = tko.SGD(0.25, momentum=0.5), tko.SGD(0.5, momentum=0.5)
    writer, reader = around(there, source), around(here, target)
    for _ in range(2):
        source.apply_gradients([(tf.constant([1.0, 2.0]), v)])
    if there != "plain":
        writer.build([v])
        if IS_KERAS_3:
            writer.dynamic_scale.assign(8.0)
    reader.build([w])
    path = tf.train.Checkpoint(optimizer=writer).write(str(tmp_path / "c"))
    checkpoint = tf.train.Checkpoint(optimizer=reader)
    if IS_KERAS_3 and "plain" in (there, here) and there != here:
        message = "with a LossScale" if here == "plain" else "without a LossScale"
        with pytest.raises(ValueError, match=f"'sgd.*the checkpoint was written.*{message}"):
            checkpoint.read(path)
        assert int(target.iterations) == 0 and float(np.asarray(target.learning_rate)) == 0.5
        (slots,) = target.state_dict()["variables"].values()
        assert not slots["momentum"].any()
        return
    checkpoint.read(path)
    (slots,) = target.state_dict()["variables"].values()
    (saved,) = source.state_dict()["variables"].values()
    np.testing.assert_array_equal(slots["momentum"], saved["momentum"])
    assert saved["momentum"].any() and int(target.iterations) == 2
    assert float(np.asarray(target.learning_rate)) == 0.25
    if IS_KERAS_3 and here != "plain":
        assert float(np.asarray(reader.dynamic_scale)) == 8.0


@pytest.mark.parametrize("replicas", [1, 2])
def test_keras_own_loss_scale_goes_together_with_accumulation(replicas, strategies):
    """What `compile` wraps by itself: a batch that overflows counts for no mean."""
    good = [X[:4], 0.5 * X[4:], X[2:6], 0.25 * X[:4]]
    bad = np.full_like(X[:4], 1e5)  # infinite in float16

    def trained(batches):
        strategy = strategies[2] if replicas == 2 else tf.distribute.get_strategy()
        with policy("mixed_float16"), strategy.scope():
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
            optimizer = tko.SGD(0.5, gradient_accumulation_steps=2)
            model.compile(optimizer, "mse", jit_compile=False)
            assert not isinstance(model.optimizer, (tko.SGD, tko.LossScaleOptimizer))
            x = np.concatenate(batches)
            model.fit(x, x[:, :2], batch_size=4, shuffle=False, verbose=0)
        return model.get_weights(), int(optimizer.iterations)

    expected, updates = trained(good)
    found, with_the_bad_one = trained([*good[:1], bad, *good[1:]])
    assert updates == 2
    # Keras 2 counts a step that it leaves out.
    assert with_the_bad_one == (2 if IS_KERAS_3 else 3)
    for value, other in zip(found, expected):
        np.testing.assert_allclose(value, other, rtol=2e-3, atol=1e-4)
