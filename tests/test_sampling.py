"""SGLD, PSGLD and SGHMC: the spread of their samples, and noise that can be had again."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim import testing

CHAINS, SIZE = 20000, 100.0
SAMPLERS = [tko.SGLD, tko.PSGLD, tko.SGHMC]


def spread(optimizer, curvatures, steps, variable, temperature=1.0):
    """The variance of many chains in the bowl `a w^2 / 2`, as a share of `T / (N a)`."""
    a = tf.constant(curvatures, tf.float32)[:, None]
    optimizer.build([variable])

    @tf.function(autograph=False)
    def step():
        optimizer.apply_gradients([(a * variable, variable)])

    for _ in range(steps):
        step()
    exact = temperature / (SIZE * np.asarray(curvatures))
    return np.var(variable.numpy().astype("d"), axis=1) / exact


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", ["auto", False])
def test_sgld_has_the_variance_of_the_posterior(jit):
    for temperature in (1.0, 0.25):
        optimizer = tko.SGLD(0.02, SIZE, temperature, jit_compile=jit)
        variable = tf.Variable(tf.zeros([2, CHAINS]))
        found = spread(optimizer, [1.0, 2.0], 150, variable, temperature)
        np.testing.assert_allclose(found, 1.0, rtol=0.05)
        if jit == "auto":
            break


@pytest.mark.one_keras
def test_sghmc_has_the_variance_of_the_posterior():
    variable = tf.Variable(tf.zeros([2, CHAINS]))
    optimizer = tko.SGHMC(0.003, SIZE, momentum=0.9, jit_compile=False)
    np.testing.assert_allclose(spread(optimizer, [1.0, 2.0], 150, variable), 1.0, rtol=0.05)


@pytest.mark.one_keras
def test_psgld_has_it_where_its_preconditioner_rests():
    variable = tf.Variable(tf.zeros([2, CHAINS]), name="w")
    optimizer = tko.PSGLD(0.002, SIZE, rho=1.0 - 1e-6, jit_compile=False)
    optimizer.build([variable])
    state = optimizer.state_dict()
    velocity = np.full([2, CHAINS], 1.0 / SIZE, "f")
    velocity[1] *= 4.0
    state["variables"]["w"]["velocity"] = velocity
    optimizer.load_state_dict(state)
    found = spread(optimizer, [1.0, 4.0], 150, variable)
    np.testing.assert_allclose(found, 1.0, rtol=0.05)


def noise(optimizer, variables, steps=1):
    """The steps of variables that have no gradient but 0."""
    before = [v.numpy().astype("d") for v in variables]
    for _ in range(steps):
        optimizer.apply_gradients([(tf.zeros_like(v), v) for v in variables])
    return [v.numpy().astype("d") - b for v, b in zip(variables, before)]


def zeros(count=2, size=5000, dtype=tf.float32):
    return [tf.Variable(tf.zeros([size], dtype)) for _ in range(count)]


def correlation(a, b):
    return abs(np.mean(a * b)) / np.sqrt(np.mean(a**2) * np.mean(b**2))


@pytest.mark.one_keras
def test_noise_is_normal_and_differs_by_variable_update_and_seed():
    optimizer = tko.SGLD(0.5, jit_compile=False)
    variables = zeros()
    first, other = noise(optimizer, variables)
    (second, _), (again, _) = noise(optimizer, variables), noise(tko.SGLD(0.5), zeros())
    seeded, _ = noise(tko.SGLD(0.5, seed=1, jit_compile=False), zeros())
    wide, _ = noise(tko.SGLD(0.5, jit_compile=False), zeros(dtype=tf.float64))
    np.testing.assert_allclose(again, first, rtol=0, atol=1e-5)  # compiled
    np.testing.assert_allclose(wide, first, rtol=0, atol=1e-5)
    for noises in (other, second, seeded, np.roll(second, 1), np.roll(first, 1)):
        assert correlation(first, noises) < 0.05
        assert np.mean(noises) == pytest.approx(0.0, abs=0.05)
        assert np.var(noises) == pytest.approx(1.0, rel=0.08)
        assert np.mean(noises**4) == pytest.approx(3.0, rel=0.15)


@pytest.mark.one_keras
def test_without_temperature_they_are_simpler_algorithms():
    gradients, starts = harness.gradient_sequence(6, [(5, 3)]), harness.starts([(5, 3)])
    plain, still = {"temperature": 0.0, "jit_compile": False}, {"momentum": 0.0}
    pairs = [
        (tko.SGLD(0.05, **plain), tko.SGD(0.05, jit_compile=False)),
        (tko.SGHMC(0.05, **plain), tko.SGD(0.05, momentum=0.9, jit_compile=False)),
        [
            c(0.05, 100.0, jit_compile=False, **o)
            for c, o in ((tko.SGHMC, still), (tko.SGLD, {}))
        ],
    ]
    for ours, other in pairs:
        found, expected = (harness.run(o, gradients, starts) for o in (ours, other))
        assert harness.distance_error(found, expected, starts) <= 1e-5


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", SAMPLERS)
def test_burn_in_is_without_noise(cls):
    optimizer = cls(0.5, data_size=1e4, burn_in=2, jit_compile=False)
    variables = zeros(1, 500)
    (still,) = noise(optimizer, variables, 2)
    np.testing.assert_array_equal(still, 0.0)
    (moved,) = noise(optimizer, variables)
    expected = {tko.SGLD: 1e-4, tko.PSGLD: 10.0, tko.SGHMC: 1e-5}[cls]
    assert np.var(moved) == pytest.approx(expected, rel=0.3)


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("cls", "checks"),
    [
        (tko.SGHMC, ["replicas", "resume", "accumulation"]),
        (tko.SGLD, ["resume"]),
        (tko.PSGLD, ["sparse", "resume"]),
    ],
)
def test_noise_conforms(cls, checks, strategy):
    """The kit has them without noise."""
    arguments = {"learning_rate": 0.05, "data_size": 10.0, "jit_compile": False}
    testing.check_optimizer(cls, arguments, only=checks, strategy=strategy)


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", SAMPLERS)
def test_noise_is_the_same_inside_a_users_compiled_function(cls):
    gradients, starts = harness.gradient_sequence(4, [(5, 3)]), harness.starts([(5, 3)])
    found, expected = (
        harness.run(cls(0.05, 10.0, jit_compile=False), gradients, starts, regime)
        for regime in ("xla", "eager")
    )
    assert harness.distance_error(found, expected, starts) <= 2e-5
