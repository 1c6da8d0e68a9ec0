"""Watching where a run is not a plain one: strategies, second passes, and a monitor's life."""

import copy
import math
import pickle
import sys

import harness
import numpy as np
import pytest
import tensorflow as tf
from conftest import DEVICES
from test_watching import (
    LIMIT,
    SHAPES,
    Weights,
    batches,
    close,
    data,
    fit,
    gradients_at,
    made,
    model_of,
    norm,
    ratio,
    values,
    watched,
)

import tf_keras_optim as tko
from tests.support import state, steps

keras = tf.keras


@pytest.fixture(scope="module")
def central():
    return tf.distribute.experimental.CentralStorageStrategy(DEVICES[:2], DEVICES[0])


@pytest.mark.one_keras
@pytest.mark.parametrize("kind", ["four replicas", "central storage", "shard_slots"])
def test_replicas_of_every_kind_share_one_norm(kind, strategies, central):
    strategy = {"four replicas": strategies[4], "shard_slots": strategies[2]}.get(kind, central)
    with strategy.scope():
        variables = made()
        divided = {"shard_slots": True} if kind == "shard_slots" else {}
        optimizer = tko.Adam(0.1, global_clipnorm=5 * LIMIT, jit_compile=False, **divided)
        watched(optimizer, variables)
    count = strategy.num_replicas_in_sync
    total = count * (count + 1) / 2

    @tf.function(autograph=False)
    def step(batch):
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            share = tf.cast(number + 1, tf.float32)
            optimizer.apply_gradients([(g * share, v) for g, v in zip(batch, variables)])

        strategy.run(replica)

    norms = []
    for batch in batches(2):
        before = values(variables)
        step([tf.constant(g) for g in batch])
        found, after = optimizer.statistics(per_variable=True), values(variables)
        norms.append(total * norm(batch))
        clipped = sum(one > 5 * LIMIT for one in norms)
        close(
            found,
            learning_rate=np.float32(0.1),
            gradient_norm=norms[-1],
            update_ratio=ratio(before, after),
            clipped_updates=clipped,
        )
        for place, path in enumerate(optimizer.state_dict()["variables"]):
            expected = ratio(before[place : place + 1], after[place : place + 1])
            close(found, **{f"update_ratio/variables/{path}": expected})
    assert len(norms) == found["update"] == 2 and len(SHAPES) == 3
    with strategy.scope():
        assert optimizer.statistics(per_variable=True) == found


@pytest.mark.one_keras
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("regime", ["eager", "xla"])
def test_with_a_second_pass_its_gradient_counts(regime, every):
    """The loss is |w|^2 / 2, so the gradient at w is w, and at w + e it is longer by rho."""
    weight = tf.Variable([3.0, 4.0])
    optimizer = watched(tko.SGD(0.5), [weight])
    sharp = tko.SharpnessAware(optimizer, rho=0.5, every=every)

    def take():
        sharp.minimize(lambda: tf.reduce_sum(weight**2) / 2, [weight])

    step = steps.in_regime(take, regime)
    length = 5.0
    for number in range(3):
        step()
        gradient = length + (0.5 if number % every == 0 else 0.0)
        close(
            optimizer.statistics(), gradient_norm=gradient, update_ratio=0.5 * gradient / length
        )
        length -= 0.5 * gradient


@pytest.mark.one_keras
def test_sums_of_every_length_have_all_digits_under_xla():
    """It sums few elements, rows of some, and rows of many in ways of their own."""
    lengths = [1, 31, 255, 256, 640, 8191, 8192]
    generator = np.random.default_rng(3)
    gradients = [generator.normal(size=n).astype("f") for n in lengths]
    variables = [tf.Variable(tf.ones(n), name=f"of_{n}") for n in lengths]
    optimizer = watched(tko.SGD(0.5), variables)

    def apply():
        optimizer.apply_gradients([(tf.constant(g), v) for g, v in zip(gradients, variables)])

    steps.in_regime(apply, "xla")()
    found = optimizer.statistics(per_variable=True)
    paths = optimizer.state_dict()["variables"]
    for gradient, path in zip(gradients, paths, strict=True):
        expected = norm([gradient])
        own = found[f"gradient_norm/variables/{path}"]
        np.testing.assert_allclose(own, expected, rtol=1e-13)
    np.testing.assert_allclose(found["gradient_norm"], norm(gradients), rtol=1e-13)


def test_the_parts_of_a_multi_optimizer_are_groups_in_a_compiled_fit():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.2, 1, 0.5)
    parts = tko.OptimizerMap(tko.SGD(0.1), {".*head.*": tko.Lion(schedule)})
    model = model_of(tko.MultiOptimizer(parts), jit_compile=True)
    monitor, weights = tko.callbacks.OptimizerMonitor(every=1), Weights()
    history = fit(model, weights, monitor).history
    label = "^(?:.*head.*)$"
    for number, record in enumerate(monitor.records):
        before, after = ([w.astype("d") for w in s] for s in weights.seen[number : number + 2])
        close(
            record,
            gradient_norm=norm(gradients_at(before, number)),
            update_ratio=ratio(before, after),
            **{
                "learning_rate/groups/others": np.float32(0.1),
                f"learning_rate/groups/{label}": 0.2 * 0.5**number,
                "update_ratio/groups/others": ratio(before[:2], after[:2]),
                f"update_ratio/groups/{label}": ratio(before[2:], after[2:]),
            },
        )
    assert history[f"optimizer/learning_rate/groups/{label}"] == pytest.approx([0.05])


def test_several_steps_in_one_call_show_the_last():
    """Three batches an epoch are calls of two steps and of one."""
    monitor, weights = tko.callbacks.OptimizerMonitor(every=1), Weights()
    model = model_of(tko.SGD(0.1), jit_compile=False, steps_per_execution=2)
    fit(model, monitor, epochs=2)
    fit(model_of(tko.SGD(0.1), run_eagerly=True), weights, epochs=2)
    assert [record["batch"] for record in monitor.records] == [2, 3, 5, 6]
    for record in monitor.records:
        number = int(record["update"]) - 1
        before, after = weights.seen[number : number + 2]
        np.testing.assert_allclose(
            [record["gradient_norm"], record["update_ratio"]],
            [norm(gradients_at(before, number % 3)), ratio(before, after)],
            rtol=1e-4,  # the twin's weights have other last digits
        )
    assert [record["update"] for record in monitor.records] == [2, 3, 5, 6]


# The life of a monitor.


class _Fails(keras.callbacks.Callback):
    """Ends training by an error in the second batch of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 1):
            raise RuntimeError("interrupted")


def test_a_training_that_fails_goes_on_and_is_watched_on(tmp_path):
    model = model_of(tko.Adam(0.1), run_eagerly=True)
    monitor, weights = tko.callbacks.OptimizerMonitor(tmp_path, every=4), Weights()
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(model, monitor, _Fails(), epochs=2)
    (path,) = tmp_path.glob("events*")
    events = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    assert max(tf.compat.v1.Event.FromString(event).step for event in events) == 5
    fit(model, weights, monitor)
    assert [record["batch"] for record in monitor.records] == [1, 3, 5, 6, 8]
    assert [record["update"] for record in monitor.records] == [1, 3, 5, 6, 8]
    for number, record in zip((0, 2), monitor.records[3:]):
        before, after = weights.seen[number : number + 2]
        close(
            record,
            gradient_norm=norm(gradients_at(before, number)),
            update_ratio=ratio(*([w.astype("d") for w in seen] for seen in (before, after))),
        )
    fit(model)  # measuring stays on
    assert model.optimizer.statistics()["update"] == 11.0
    assert not math.isnan(model.optimizer.statistics()["gradient_norm"])


class _OwnStep(keras.Model):
    """Twice the loss that the model is compiled with."""

    def train_step(self, batch):
        x, y = batch
        with tf.GradientTape() as tape:
            loss = 2.0 * tf.reduce_mean(tf.square(self(x, training=True) - y))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return {"twice": loss}


def test_two_monitors_of_a_model_with_a_step_of_its_own():
    inside = model_of(tko.SGD(0.1))
    model = _OwnStep(inside.inputs, inside.outputs)
    model.compile(tko.SGD(0.1), "mse", run_eagerly=True)
    often, seldom = (tko.callbacks.OptimizerMonitor(every=n) for n in (1, 2))
    weights = Weights()
    logs = fit(model, weights, often, seldom).history
    assert [record["update"] for record in often.records] == [1, 2, 3]
    assert seldom.records == often.records[::2]
    for number, record in enumerate(often.records):
        expected = 2.0 * norm(gradients_at(weights.seen[number], number))
        close(record, gradient_norm=expected)
    assert logs["optimizer/gradient_norm"] == [record["gradient_norm"]]
    assert "loss" not in record
    x, y = data()
    found = inside.evaluate(x, y, verbose=0, return_dict=True, callbacks=[often])
    assert len(often.records) == 3 and not any("optimizer" in name for name in found)


@pytest.mark.skipif(not harness.IS_KERAS_3, reason="Keras 2 copies by files")
def test_copies_of_what_is_watched_are_watched_by_themselves():
    made = (tko.Adam(0.1, clipnorm=0.5, jit_compile=False, name="one") for _ in "12")
    model, twin = (model_of(optimizer, run_eagerly=True) for optimizer in made)
    fit(model, tko.callbacks.OptimizerMonitor(every=1))
    fit(twin)
    assert model.optimizer.get_config() == twin.optimizer.get_config()
    before = model.optimizer.statistics()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for value, expected in zip(other.get_weights(), twin.get_weights()):
            np.testing.assert_array_equal(value, expected)
        own, other.run_eagerly = tko.callbacks.OptimizerMonitor(every=1), True
        fit(other, own)
        assert [record["update"] for record in own.records] == [4.0, 5.0, 6.0]
        assert own.records[-1]["clipped_updates"] <= 3.0
        weights = other.get_weights()
    assert model.optimizer.statistics() == before
    fit(twin)
    for value, expected in zip(weights, twin.get_weights()):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.one_keras
@pytest.mark.parametrize("whose", ["watched", "alone"])
def test_checkpoints_do_not_know_who_watches(whose, tmp_path):
    pair = {}
    for name in ("watched", "alone"):
        variables = made()
        optimizer = tko.Adam(0.1, clipnorm=1.0, jit_compile=False, name="one")
        if name == "watched":
            optimizer.statistics()
        pair[name] = tf.train.Checkpoint(optimizer=optimizer, variables=variables)
        optimizer.build(variables)
    configs = [checkpoint.optimizer.get_config() for checkpoint in pair.values()]
    assert configs[0] == configs[1]
    source = pair.pop(whose)
    (target,) = pair.values()
    for batch in batches(2):
        tensors = [tf.constant(g) for g in batch]
        source.optimizer.apply_gradients(zip(tensors, source.variables))
    target.read(source.write(str(tmp_path / "file"))).assert_consumed()
    state.assert_equal(target.optimizer.state_dict(), source.optimizer.state_dict())
    for checkpoint in (source, target):
        checkpoint.optimizer.apply_gradients(zip(tensors, checkpoint.variables))
    for one, other in zip(source.variables, target.variables):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    found = (source if whose == "watched" else target).optimizer.statistics()
    close(found, update=3.0, gradient_norm=norm(batch))


@pytest.mark.one_keras
def test_what_is_not_installed_is_named(monkeypatch, tmp_path):
    monitor = tko.callbacks.OptimizerMonitor()
    monitor.records = [{"batch": 0.0, "update": 0.0, "learning_rate": 0.1}]
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"matplotlib: install tf_keras_optim\[plots\]"):
        monitor.plot(tmp_path / "page.png")
    monkeypatch.delattr(tf.summary, "scalar")
    with pytest.raises(ImportError, match=r"needs TensorBoard\. Install `tensorboard`"):
        tko.callbacks.OptimizerMonitor(tmp_path / "logs")
    assert not list(tmp_path.iterdir())
    fit(model_of(tko.SGD(0.1), run_eagerly=True), monitor)  # without both
    assert len(monitor.records) == 3  # the first batch and the end, after that from before
