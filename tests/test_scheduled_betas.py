"""Bias corrections where a beta follows a schedule: one minus the product of the betas."""

import functools

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim.optimizers.records import of

BETAS = {"beta_1": (0.5, 0.9), "beta_2": (0.8, 0.99)}  # from and to, in four updates
STEPS = 10
CASES = [tko.Adam, tko.AdamW, tko.Adamax, tko.Nadam, tko.Lamb]
SHAPES = [(7,), (5, 3)]


def beta(name, updates):
    first, last = BETAS[name]
    return first + (last - first) * min(updates / 4, 1.0)


def make(cls, **more):
    betas = {
        name: tko.schedules.Warmup(last, steps=4, initial_learning_rate=first)
        for name, (first, last) in BETAS.items()
    }
    decay = {"weight_decay": 0.1} if cls is tko.AdamW else {}
    return cls(0.01, **betas, **decay, **more)


@functools.cache
def expected(cls):
    step, values = oracles.ALGORITHMS[of(cls).oracle]
    values = values | {"learning_rate": 0.01}
    if cls is tko.AdamW:
        values["weight_decay"] = 0.1
    found = []
    for i, weight in enumerate(harness.starts(SHAPES)):
        slots, history = {}, []
        for t, batch in enumerate(harness.gradient_sequence(STEPS, SHAPES)):
            history.append(values | {name: beta(name, t) for name in BETAS})
            weight = step(weight, batch[i], slots, history)
        found.append(weight)
    return found


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize("cls", CASES)
def test_the_correction_goes_by_the_product(cls, regime):
    starts = harness.starts(SHAPES)
    values = harness.run(make(cls), harness.gradient_sequence(STEPS, SHAPES), starts, regime)
    assert harness.distance_error(values, expected(cls), starts) <= 1e-5


@pytest.mark.one_keras
@pytest.mark.parametrize("target", [0.9, 0.999])
def test_every_step_of_a_constant_gradient_is_the_rate(target):
    optimizer = tko.Adam(0.01, beta_2=tko.schedules.Warmup(target, 50, 0.95))
    variable, before = tf.Variable([0.0]), 0.0
    for _ in range(80):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        now = float(variable.numpy()[0])
        assert before - now == pytest.approx(0.01, rel=1e-3)
        before = now


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", CASES)
def test_the_product_is_resumed(cls):
    gradients, starts = harness.gradient_sequence(STEPS, SHAPES), harness.starts(SHAPES)
    variables = [tf.Variable(s, dtype=tf.float32, name=n) for n, s in zip("ab", starts)]
    first, second = make(cls), make(cls)
    harness.run(first, gradients[:5], starts, variables=variables)
    second.build(variables)
    second.load_state_dict(first.state_dict())
    values = harness.run(second, gradients[5:], starts, variables=variables)
    assert harness.distance_error(values, expected(cls), starts) <= 1e-5


@pytest.mark.one_keras
def test_a_state_without_the_product_loads_and_goes_on_as_it_did():
    variable = tf.Variable([1.0, 2.0], name="w")
    gradient = tf.constant([1.0, -1.0])
    first, second = make(tko.Adam), make(tko.Adam)
    for _ in range(6):
        first.apply_gradients([(gradient, variable)])
    state = first.state_dict()
    scalars = {n: v for n, v in state["scalars"].items() if not n.endswith("log_product")}
    second.build([variable])
    second.load_state_dict(state | {"scalars": scalars})
    before = variable.numpy()
    second.apply_gradients([(gradient, variable)])
    slots = second.state_dict()["variables"]["w"]
    root_2, correction_1 = np.sqrt(1 - 0.99**7), 1 - 0.9**7
    step = 0.01 * root_2 / correction_1 * slots["momentum"] / np.sqrt(slots["velocity"])
    np.testing.assert_allclose(before - variable.numpy(), step, rtol=1e-4)


@pytest.mark.one_keras
def test_a_beta_that_becomes_a_schedule_goes_on():
    variable = tf.Variable([1.0])
    optimizer = tko.Adam(0.01)
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    optimizer.beta_1 = tko.schedules.Warmup(0.95, steps=10, initial_learning_rate=0.9)
    for _ in range(3):
        before = float(variable.numpy()[0])
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        assert before - float(variable.numpy()[0]) == pytest.approx(0.01, rel=0.15)


@pytest.mark.one_keras
def test_constant_betas_keep_no_product():
    optimizer = tko.Adam()
    optimizer.build([tf.Variable([1.0])])
    assert set(optimizer.state_dict()["scalars"]) == {"iterations", "learning_rate"}
