"""Another number of calls makes an update: updates are what counts."""

import functools

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

pytestmark = pytest.mark.xla_in_one_keras
keras = tf.keras
GRADIENT = tf.constant([[1.0, -2.0], [0.5, 3.0]])


def make(steps):
    rate = tko.schedules.Warmup(0.1, steps=20, initial_learning_rate=0.01)
    options = {"use_ema": True, "ema_momentum": 0.5, "jit_compile": False}
    return tko.Adam(rate, gradient_accumulation_steps=steps, **options)


def variable():
    return tf.Variable(tf.ones([2, 2]), name="w")


def train(optimizer, weight, updates, steps, more=0):
    for _ in range(updates * (steps or 1) + more):
        optimizer.apply_gradients([(GRADIENT, weight)])


@functools.cache
def expected(updates):
    """What so many updates make of the variable and of its average."""
    weight, optimizer = variable(), make(None)
    train(optimizer, weight, updates, None)
    return weight.numpy(), optimizer.state_dict()["variables"]["w"]["average"]


def check(optimizer, weight, updates):
    value, average = expected(updates)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    np.testing.assert_allclose(weight.numpy(), value, rtol=0, atol=1e-6)
    kept = inner.state_dict()["variables"]["w"]["average"]
    np.testing.assert_allclose(kept, average, rtol=0, atol=1e-6)
    assert int(optimizer.iterations) == updates


@pytest.mark.one_keras
@pytest.mark.parametrize("before, after", [(4, 2), (2, 3), (None, 2), (4, None), (1, 4)])
def test_a_change_keeps_the_updates(before, after):
    optimizer, weight = make(before), variable()
    train(optimizer, weight, 3, before)
    optimizer.gradient_accumulation_steps = after
    assert int(optimizer.iterations) == 3
    train(optimizer, weight, 2, after)
    optimizer.gradient_accumulation_steps = before
    train(optimizer, weight, 1, before)
    check(optimizer, weight, 6)


@pytest.mark.one_keras
def test_a_change_through_a_loss_scale_and_in_a_strategys_scope(strategies):
    strategy = strategies[2]
    with strategy.scope():
        optimizer = tko.LossScaleOptimizer(make(4), initial_scale=1.0)
        weight = variable()

    def step():
        strategy.run(lambda: optimizer.apply_gradients([(GRADIENT / 2.0, weight)]))

    for _ in range(8):
        step()
    with strategy.scope():
        optimizer.gradient_accumulation_steps = 2
        assert int(optimizer.iterations) == 2
    for _ in range(4):
        step()
    assert int(optimizer.iterations) == 4
    value, _ = expected(4)
    for component in weight.values:
        np.testing.assert_allclose(component.numpy(), value, rtol=0, atol=1e-6)


def test_a_change_between_the_calls_of_an_update_is_refused():
    optimizer, weight = make(4), variable()
    train(optimizer, weight, 2, 4, more=1)
    before = optimizer.get_weights()
    with pytest.raises(ValueError, match=r"from 4 to 2 now: 1 of the 4.*after 3 more"):
        optimizer.gradient_accumulation_steps = 2
    assert optimizer.gradient_accumulation_steps == 4
    for value, kept in zip(optimizer.get_weights(), before):
        np.testing.assert_array_equal(value, kept)
    train(optimizer, weight, 0, 4, more=3)
    optimizer.gradient_accumulation_steps = 2
    train(optimizer, weight, 1, 2)
    check(optimizer, weight, 4)


@pytest.mark.one_keras
def test_a_function_that_was_traced_goes_on_until_it_is_made_anew():
    optimizer, weight = make(2), variable()

    def made():
        return tf.function(lambda: optimizer.apply_gradients([(GRADIENT, weight)]))

    step = made()
    for _ in range(4):
        step()
    with pytest.warns(UserWarning, match="until it is traced again"):
        optimizer.gradient_accumulation_steps = 3
    for _ in range(2):
        step()
    assert int(optimizer.iterations) == 3
    step = made()
    for _ in range(6):
        step()
    check(optimizer, weight, 5)


@pytest.mark.one_keras
@pytest.mark.parametrize("write", ["checkpoint", "saved_model"])
def test_a_change_is_kept_where_something_is_saved_before_the_next_step(write, tmp_path):
    optimizer, weight = make(1), variable()

    def made():
        return tf.function(lambda: optimizer.apply_gradients([(GRADIENT, weight)]))

    step = made()
    for _ in range(3):
        step()
    with pytest.warns(UserWarning, match="until it is traced again"):
        optimizer.gradient_accumulation_steps = 2
    if write == "checkpoint":
        tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    else:
        module = tf.Module()
        module.weight, module.optimizer = weight, optimizer
        tf.saved_model.save(module, str(tmp_path / "saved"))
    step = made()
    for _ in range(4):
        step()
    check(optimizer, weight, 5)


@pytest.mark.one_keras
def test_a_late_variable_counts_updates():
    first, second = variable(), tf.Variable(tf.ones([2, 2]), name="late")
    optimizer = make(4)
    train(optimizer, first, 2, 4)
    optimizer.build([first, second])
    optimizer.gradient_accumulation_steps = 2
    optimizer.learning_rate = 0.1
    for _ in range(4):
        optimizer.apply_gradients([(GRADIENT, first), (GRADIENT, second)])
    peer = tf.Variable(tf.ones([2, 2]))
    fresh = tko.Adam(tko.schedules.Warmup(0.1, steps=20, initial_learning_rate=0.01))
    fresh.iterations.assign(2)
    fresh.learning_rate = 0.1
    train(fresh, peer, 2, None)
    np.testing.assert_allclose(second.numpy(), peer.numpy(), rtol=0, atol=1e-6)


# Resumed with another number.


def by_state(optimizer, other, weight, tmp_path):
    other.build([weight])
    other.load_state_dict(optimizer.state_dict())


def by_state_before_build(optimizer, other, weight, tmp_path):
    other.load_state_dict(optimizer.state_dict())


def by_file(optimizer, other, weight, tmp_path):
    tko.save_state(tmp_path / "state.tko", optimizer)
    other.build([weight])
    tko.load_state(tmp_path / "state.tko", other)


def by_checkpoint(optimizer, other, weight, tmp_path):
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    other.build([weight])
    tf.train.Checkpoint(optimizer=other).read(path)


def by_checkpoint_before_build(optimizer, other, weight, tmp_path):
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(optimizer=other).read(path)


def by_checkpoint_after_steps(optimizer, other, weight, tmp_path):
    path = tf.train.Checkpoint(optimizer=optimizer, weight=weight).write(str(tmp_path / "here"))
    train(other, weight, 2, other.gradient_accumulation_steps)
    tf.train.Checkpoint(optimizer=other, weight=weight).read(path)


WAYS = [
    by_state, by_state_before_build, by_file,
    by_checkpoint, by_checkpoint_before_build, by_checkpoint_after_steps,
]  # fmt: skip


@pytest.mark.one_keras
@pytest.mark.parametrize(
    "way, before, after",
    [
        *((way, 4, 2) for way in WAYS),
        *((way, None, 3) for way in WAYS[:4]),
        *((way, 3, None) for way in WAYS[2:]),
    ],
)
def test_a_resumed_optimizer_keeps_the_updates(way, before, after, tmp_path):
    optimizer, other, weight = make(before), make(after), variable()
    train(optimizer, weight, 3, before)
    way(optimizer, other, weight, tmp_path)
    assert int(other.iterations) == 3
    train(other, weight, 2, after)
    check(other, weight, 5)


@pytest.mark.one_keras
def test_a_resumed_optimizer_of_wide_variables_keeps_the_updates():
    weight = tf.Variable(np.ones([2, 2]), name="w")
    optimizer, other = make(4), make(2)
    for _ in range(8):
        optimizer.apply_gradients([(tf.cast(GRADIENT, tf.float64), weight)])
    other.build([weight])
    assert other.load_state_dict(optimizer.state_dict()).fits
    assert int(other.iterations) == 2


@pytest.mark.parametrize("way", [by_state, by_checkpoint])
def test_gradients_gathered_for_another_number_are_refused(way, tmp_path, monkeypatch):
    optimizer, other, weight = make(4), make(2), variable()
    train(optimizer, weight, 3, 4, more=3)
    with pytest.raises(ValueError, match=r"3 of the 4 calls that make an update had been made"):
        way(optimizer, other, weight, tmp_path)
    if way is by_state:
        lines = []
        monkeypatch.setattr(
            tf.get_logger(), "info", lambda text, *more: lines.append(text % more)
        )
        other.load_state_dict(optimizer.state_dict(), strict=False)
        assert len(lines) == 1 and "left out" in lines[0]
        train(other, weight, 1, 2)
        check(other, weight, 4)


def test_keras_files_say_how_many_calls_make_an_update(tmp_path):
    x, y = harness.classification_data()
    path = str(tmp_path / "w.weights.h5")
    models, optimizers = [harness.small_model() for _ in range(2)], []
    for model, steps in zip(models, (4, 2)):
        optimizers.append(tko.SGD(0.1, gradient_accumulation_steps=steps, jit_compile=False))
        model.compile(optimizers[-1], harness.classification_loss())
    models[0].fit(x, y, batch_size=16, shuffle=False, verbose=0)
    models[0].save_weights(path)
    models[1].load_weights(path)
    models[1].fit(x, y, batch_size=16, shuffle=False, verbose=0)
    assert [int(optimizer.iterations) for optimizer in optimizers] == [1, 3]


@pytest.mark.parametrize("value", [0, 2.5, "4"])
def test_a_number_that_cannot_be_is_refused(value):
    optimizer, weight = make(2), variable()
    train(optimizer, weight, 1, 2)
    state = optimizer.state_dict() | {"gradient_accumulation_steps": value}
    with pytest.raises(ValueError, match=r"`gradient_accumulation_steps`=.*at least 1"):
        optimizer.load_state_dict(state)


def test_a_state_of_an_earlier_version_is_taken_as_it_is():
    optimizer, other, weight = make(2), make(2), variable()
    train(optimizer, weight, 3, 2, more=1)
    state = optimizer.state_dict()
    del state["gradient_accumulation_steps"]
    other.build([weight])
    other.load_state_dict(state)
    train(other, weight, 0, 2, more=1)
    check(other, weight, 4)


@pytest.mark.skipif(not harness.IS_KERAS_3, reason="Keras 2 has no accumulation")
def test_an_optimizer_of_keras_is_converted_to_another_number():
    theirs, weight = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4), variable()
    theirs.build([weight])
    train(theirs, weight, 3, 4)
    ours = tko.convert(theirs, variables=[weight], gradient_accumulation_steps=2)
    assert int(ours.iterations) == 3
