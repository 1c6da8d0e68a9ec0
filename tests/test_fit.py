"""`compile`, `fit`, `evaluate` and Keras' callbacks, in every mode of each Keras."""

import functools

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import state

keras = tf.keras

MODES = [
    {},
    {"jit_compile": True},
    {"jit_compile": False},
    {"run_eagerly": True},
    {"steps_per_execution": 4},
]
only_keras_3 = pytest.mark.skipif(
    not harness.IS_KERAS_3, reason="SwapEMAWeights does not exist in Keras 2"
)


def close(model, other, tolerance=1e-6):
    for ours, expected in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)


FIT_OPTIONS = {"learning_rate": 0.01, "weight_decay": 0.01, "global_clipnorm": 0.5}


@functools.cache
def peer_in_fit(name):
    """Model, losses and evaluated loss of Keras' own; numbers that no mode changes."""
    model, losses = harness.fit(getattr(keras.optimizers, name)(**FIT_OPTIONS))
    return model, losses, model.evaluate(*harness.classification_data(), verbose=0)


# All modes give the same with all options at once, below: here each Keras has some.
AS_KERAS = [(tko.Adam, {}), (tko.Adam, {"jit_compile": True}), (tko.SGD, {"run_eagerly": True})]
if not harness.IS_KERAS_3:
    AS_KERAS = [(tko.Adam, {}), (tko.Adam, {"steps_per_execution": 4}),
                (tko.SGD, {"jit_compile": True})]  # fmt: skip


@pytest.mark.parametrize(("cls", "mode"), AS_KERAS, ids=str)
def test_fit_equals_kerass_own(cls, mode):
    model, losses = harness.fit(cls(**FIT_OPTIONS), **mode)
    other, expected, evaluated = peer_in_fit(cls.__name__)
    close(model, other)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    x, y = harness.classification_data()
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), evaluated, rtol=1e-5)


def with_all_options(**mode):
    optimizer = tko.AdamW(
        0.01,
        global_clipnorm=0.5,
        use_ema=True,
        ema_overwrite_frequency=3,
        gradient_accumulation_steps=2,
        loss_scale_factor=64.0,
    )
    return harness.fit(optimizer, **mode)[0]


@pytest.fixture(scope="module")
def without_xla():
    return with_all_options(jit_compile=False)


@pytest.mark.one_keras
@pytest.mark.parametrize("mode", [m for m in MODES if m != {"jit_compile": False}], ids=str)
def test_all_options_at_once_give_the_same_in_every_mode(mode, without_xla):
    close(with_all_options(**mode), without_xla)


def test_learning_rate_scheduler_sets_the_rate():
    rates = {0: 0.5, 1: 0.25}
    model = harness.small_model()
    model.compile(tko.SGD(1.0), harness.classification_loss())
    callback = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    history = model.fit(
        *harness.classification_data(), epochs=2, verbose=0, callbacks=[callback]
    )
    key = "learning_rate" if "learning_rate" in history.history else "lr"
    assert [float(rate) for rate in history.history[key]] == [0.5, 0.25]
    assert float(model.optimizer.learning_rate.numpy()) == 0.25


def test_a_rate_that_is_set_takes_effect_without_a_retrace():
    model = harness.small_model()
    model.compile(tko.SGD(0.1), harness.classification_loss())
    x, y = harness.classification_data()
    model.fit(x, y, epochs=1, verbose=0)
    before = model.get_weights()
    model.optimizer.learning_rate = 0.0
    model.fit(x, y, epochs=1, verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert model.optimizer.trace_count == 1


def test_reduce_lr_on_plateau_lowers_the_rate():
    model = harness.small_model()
    model.compile(tko.SGD(1e-6), harness.classification_loss())
    callback = keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=10.0)
    model.fit(*harness.classification_data(), epochs=3, verbose=0, callbacks=[callback])
    assert float(model.optimizer.learning_rate.numpy()) == pytest.approx(0.25e-6)


def test_backup_and_restore_resumes(tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def train(epochs, callbacks):
        model = harness.small_model()
        model.compile(tko.Adam(0.01), harness.classification_loss())
        x, y = harness.classification_data()
        model.fit(x, y, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks)
        return model

    def backup():
        return keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))

    with pytest.raises(KeyboardInterrupt):
        train(4, [backup(), Interrupt()])
    resumed, straight = train(4, [backup()]), train(4, [])
    close(resumed, straight, tolerance=0)
    assert int(resumed.optimizer.iterations) == int(straight.optimizer.iterations) == 8


@pytest.mark.parametrize("weights_only", [True, False])
def test_model_checkpoint_keeps_the_state(tmp_path, weights_only):
    keras_3_name = "best.weights.h5" if weights_only else "best.keras"
    name = "best.keras" if not weights_only or harness.IS_KERAS_3 else "best"
    path = str(tmp_path / (keras_3_name if harness.IS_KERAS_3 else name))
    callback = keras.callbacks.ModelCheckpoint(path, save_weights_only=weights_only)
    model = harness.small_model()
    model.compile(tko.Adam(0.01), harness.classification_loss())
    x, y = harness.classification_data()
    model.fit(x, y, epochs=1, verbose=0, callbacks=[callback])
    if weights_only:
        restored = harness.small_model(seed=1)
        restored.compile(tko.Adam(0.01), harness.classification_loss())
        restored.load_weights(path)
    else:
        restored = keras.models.load_model(path)
    assert type(restored.optimizer) is tko.Adam
    for m in (model, restored):
        m.fit(x, y, epochs=1, verbose=0, shuffle=False)
    close(model, restored, tolerance=0)
    assert int(restored.optimizer.iterations) == 4


@only_keras_3
def test_swap_ema_weights_evaluates_the_average(tmp_path):
    model = harness.small_model()
    model.compile(tko.SGD(0.5, use_ema=True, ema_momentum=0.5), harness.classification_loss())
    x, y = harness.classification_data()
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            seen.append(model.get_weights())

    callbacks = [keras.callbacks.SwapEMAWeights(), Watch()]
    model.fit(x, y, verbose=0, validation_data=(x, y), callbacks=callbacks)
    for swapped, average in zip(seen[0], state.averages(model.optimizer)):
        np.testing.assert_allclose(swapped, average, rtol=0, atol=1e-6)


def test_tensorboard_writes_events(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    steps = None if harness.IS_KERAS_3 else 2
    model = harness.small_model()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    optimizer = tko.Adam(schedule, gradient_accumulation_steps=steps)
    model.compile(optimizer, harness.classification_loss())
    x, y = harness.classification_data()
    board = keras.callbacks.TensorBoard(str(tmp_path), update_freq=1)
    model.fit(x, y, epochs=2, verbose=0, validation_data=(x, y), callbacks=[board])
    events = list(tmp_path.rglob("events.out.tfevents.*"))
    tags = {
        value.tag
        for file in events
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert "epoch_loss" in tags
    assert {"epoch_learning_rate", "epoch_lr"} & tags


def test_fit_finishes_with_the_ema():
    optimizer = tko.SGD(0.5, use_ema=True, ema_momentum=0.5)
    model, _ = harness.fit(optimizer)
    for weight, average in zip(model.get_weights(), state.averages(optimizer)):
        np.testing.assert_array_equal(weight, average)


def test_a_schedule_runs_in_fit():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 16)
    ours, _ = harness.fit(tko.SGD(schedule, momentum=0.9))
    peer, _ = harness.fit(keras.optimizers.SGD(schedule, momentum=0.9))
    close(ours, peer)


def test_a_module_trains_in_a_plain_loop():
    class Line(tf.Module):
        def __init__(self):
            super().__init__()
            self.slope = tf.Variable(0.0, name="slope")
            self.offset = tf.Variable(0.0, name="offset")

    line, optimizer = Line(), tko.Adam(0.1)
    x = tf.linspace(-1.0, 1.0, 20)
    for _ in range(300):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((line.slope * x + line.offset - (3.0 * x - 1.0)) ** 2)
        gradients = tape.gradient(loss, line.trainable_variables)
        optimizer.apply_gradients(zip(gradients, line.trainable_variables))
    assert float(line.slope.numpy()) == pytest.approx(3.0, abs=1e-2)
    assert float(line.offset.numpy()) == pytest.approx(-1.0, abs=1e-2)
    assert optimizer.trace_count == 1
