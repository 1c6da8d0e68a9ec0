"""Several optimizers that update one narrow variable: no step is lost or counted twice."""

import gc
import pickle

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import xla

keras = tf.keras
ROUNDS = 50  # of a step of 0.01 and one of 0.03


def weight(dtype=tf.bfloat16, value=(100.0, 3.0)):
    """At 100, neighbours in bfloat16 are 0.5 apart, in float16 0.0625."""
    return tf.Variable(tf.constant(value, dtype), name="w")


def step(optimizer, variable):
    optimizer.apply_gradients([(tf.ones_like(variable), variable)])


def master(optimizer, name="w"):
    return optimizer.state_dict()["variables"][name]["master"]


def check(variable, expected, *optimizers):
    for optimizer in optimizers:
        np.testing.assert_allclose(master(optimizer), expected, rtol=1e-5)
    rounded = tf.cast(tf.constant(expected, tf.float32), variable.dtype)
    np.testing.assert_array_equal(variable.numpy(), rounded.numpy())


@pytest.mark.one_keras
@pytest.mark.parametrize(
    "dtype, jit",
    [(tf.bfloat16, None), (tf.bfloat16, True), (tf.bfloat16, False), (tf.float16, True)],
)
def test_steps_of_two_optimizers_add_up(dtype, jit):
    if jit:
        xla.need(dtype)
    one, other, variable = tko.SGD(0.01), tko.SGD(0.03), weight(dtype)

    def both():
        step(one, variable)
        step(other, variable)

    run = both if jit is None else tf.function(both, jit_compile=jit)
    for _ in range(ROUNDS):
        run()
    check(variable, [98.0, 1.0], one, other)


@pytest.mark.one_keras
def test_steps_by_turns_of_optimizers_with_slots_and_scales():
    one = tko.LossScaleOptimizer(tko.Adam(0.01), initial_scale=4.0)
    other, variable = tko.Adam(0.03), weight()
    for first, second, repeats in ((one, other, 7), (other, one, 43)):
        for _ in range(repeats):
            first.apply_gradients([(tf.ones_like(variable) * 4.0, variable)])
        for _ in range(repeats):
            second.apply_gradients([(tf.ones_like(variable) * 4.0, variable)])
    check(variable, [98.0, 1.0], other)


@pytest.mark.one_keras
def test_two_replicas(strategy):
    with strategy.scope():
        variable, one, other = weight(), tko.SGD(0.005), tko.SGD(0.015)
        one.build([variable])

    @tf.function
    def both():
        step(one, variable)
        step(other, variable)

    for _ in range(ROUNDS):
        strategy.run(both)
    check(variable, [98.0, 1.0], one, other)
    for part in variable.values:
        np.testing.assert_array_equal(part.numpy(), [98.0, 1.0])


@pytest.mark.one_keras
def test_an_optimizer_made_later_goes_on_with_all_digits():
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, dtype="bfloat16")])
    model.build((None, 2))
    model.set_weights([np.array([[100.0], [3.0]])])
    x, y = np.zeros((4, 2)), np.zeros((4, 1))
    kept = []
    for rate in (0.01, 0.03):  # decay alone moves the weights
        kept.append(tko.SGD(rate, weight_decay=0.1))
        model.compile(kept[-1], "mse")
        model.fit(x, y, batch_size=1, epochs=5, verbose=0)
    expected = np.array([[100.0], [3.0]]) * (1 - 0.001) ** 20 * (1 - 0.003) ** 20
    for optimizer in kept:
        (slots,) = optimizer.state_dict()["variables"].values()
        np.testing.assert_allclose(slots["master"], expected, rtol=1e-5)
    # Of weights that are set nothing is left.
    model.set_weights([np.array([[100.0], [2.0]])])
    kept.append(tko.SGD(0.1))
    kept[-1].build(model.trainable_variables)
    (slots,) = kept[-1].state_dict()["variables"].values()
    np.testing.assert_array_equal(slots["master"], [[100.0], [2.0]])


@pytest.mark.one_keras
def test_what_no_optimizer_has_any_more_is_gone():
    variable, one = weight(), tko.SGD(0.01)
    step(one, variable)
    np.testing.assert_allclose(master(one), [99.99, 2.99], rtol=1e-6)
    del one
    gc.collect()
    other = tko.SGD(0.01)
    other.build([variable])
    np.testing.assert_array_equal(master(other), variable.numpy().astype("f"))


@pytest.mark.one_keras
def test_other_variables_of_the_same_name_and_copies_have_their_own():
    first, second, one, other = weight(), weight(), tko.SGD(0.01), tko.SGD(0.03)
    step(one, first)
    step(other, second)
    check(first, [99.99, 2.99], one)
    check(second, [99.97, 2.97], other)
    again = pickle.loads(pickle.dumps(other.state_dict()))
    third, fresh = weight(), tko.SGD(0.03)
    third.assign(second)
    fresh.build([third])
    fresh.load_state_dict(again)
    step(fresh, third)
    check(third, [99.94, 2.94], fresh)
    check(second, [99.97, 2.97], other)


@pytest.mark.one_keras
@pytest.mark.parametrize("way", ["checkpoint", "state"])
def test_both_come_back_from_files(way, tmp_path):
    def make():
        variable, one, other = weight(), tko.SGD(0.01), tko.SGD(0.03)
        one.build([variable])
        other.build([variable])
        return variable, one, other

    def train(variable, one, other, rounds):
        for _ in range(rounds):
            step(one, variable)
            step(other, variable)

    saved = make()
    train(*saved, 25)
    found = make()
    if way == "state":
        found[0].assign(saved[0])
        for source, target in zip(saved[1:], found[1:]):
            target.load_state_dict(source.state_dict())
    else:
        path = tf.train.Checkpoint(v=saved[0], a=saved[1], b=saved[2]).write(
            str(tmp_path / "x")
        )
        checkpoint = tf.train.Checkpoint(v=found[0], a=found[1], b=found[2])
        checkpoint.read(path).assert_consumed()
    check(found[0], [99.0, 2.0], *found[1:])
    train(*found, 25)
    check(found[0], [98.0, 1.0], *found[1:])
