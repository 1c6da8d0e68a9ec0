"""Algorithms that Keras has not: what their oracles over whole runs do not show."""

import functools
import json
import shutil

import h5py
import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf
from test_conversion import FIXTURES, variables_for

import tf_keras_optim as tko
from tests.support import state

keras = tf.keras
RATE = 0.015625  # a number of float32
FLOAT64 = {
    "adam": (tko.Adam, {"nesterov": True, "epsilon_after_correction": False}),
    "radam": (tko.RAdam, {}),
    "yogi": (tko.Yogi, {}),
    "adabelief": (tko.AdaBelief, {"rectify": True}),
    "adopt": (tko.ADOPT, {"weight_decay": 0.1}),
    "ademamix": (tko.AdEMAMix, {"warmup_steps": 15}),
    "adan": (tko.Adan, {"weight_decay": 0.1}),
    "mars": (tko.MARS, {"weight_decay": 0.1}),
    "came": (tko.CAME, {}),
    "lars": (tko.LARS, {"weight_decay": 0.1, "trust_coefficient": 0.1}),
    "adafactor": (tko.Adafactor, {"beta_1": 0.9}),
}


@pytest.mark.one_keras
@pytest.mark.parametrize("name", FLOAT64)
def test_float64_variables_have_the_digits_of_float64(name):
    cls, options = FLOAT64[name]
    start = harness.starts([(5, 3)])[0]
    gradients = [batch[0] for batch in harness.gradient_sequence(20, [(5, 3)])]
    variable = tf.Variable(start, dtype=tf.float64)
    optimizer = cls(RATE, jit_compile=False, **options)
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float64), variable)])
    options = {n: v for n, v in options.items() if n != "epsilon_after_correction"}
    expected = oracles.over_a_list(name)(start, gradients, RATE, **options)
    assert harness.distance_error([variable.numpy()], [expected], [start]) <= 1e-11


# The first update is a variable's own.


def adopted(gradients, **options):
    return oracles.adopt(np.ones(2), gradients, 0.1, **options)


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", [tko.ADOPT, tko.Adan])
def test_a_variable_without_a_gradient_so_far_has_its_first_update_later(cls):
    late, early = tf.Variable([1.0, 1.0]), tf.Variable([1.0, 1.0])
    optimizer = cls(0.1, jit_compile=False)
    optimizer.build([late, early])
    step, values = oracles.ALGORITHMS[cls.__name__.lower()]
    values, slots, history = values | {"learning_rate": 0.1}, {}, []
    expected = np.ones(2)
    for number in range(6):
        gradient = np.array([1.0, -0.5]) * (1.0 + number)
        given = None if number < 3 else tf.constant(gradient, tf.float32)
        optimizer.apply_gradients([(given, late), (tf.ones([2]), early)])
        history.append(values)
        if given is not None:
            expected = step(expected, gradient, slots, history)
        if cls is tko.ADOPT and number == 3:
            np.testing.assert_array_equal(late.numpy(), [1.0, 1.0])
    np.testing.assert_allclose(late.numpy(), expected, rtol=1e-5)


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", [tko.ADOPT, tko.Adan])
def test_lazy_rows_have_first_updates_of_their_own(cls):
    table = tf.Variable(tf.ones([2, 2]))
    optimizer = cls(0.1, sparse="lazy")
    step, values = oracles.ALGORITHMS[cls.__name__.lower()]
    values = values | {"learning_rate": 0.1}
    slots, expected = ({}, {}), [np.ones(2), np.ones(2)]
    for number, rows in enumerate([[0], [0], [0, 1], [1], [0, 1]], 1):
        gradient = np.array([[1.0, -2.0], [0.25, 4.0]])[: len(rows)] * number
        parts = tf.constant(gradient, tf.float32), tf.constant(rows), tf.constant([2, 2])
        optimizer.apply_gradients([(tf.IndexedSlices(*parts), table)])
        for row, own in zip(rows, gradient):
            expected[row] = step(expected[row], own, slots[row], [values] * number)
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-5)


@pytest.mark.one_keras
def test_the_first_update_of_adopt_does_not_decay():
    variable = tf.Variable([1.0, 2.0])
    optimizer = tko.ADOPT(0.5, weight_decay=0.5)
    optimizer.apply_gradients([(tf.constant([3.0, 4.0]), variable)])
    np.testing.assert_array_equal(variable.numpy(), [1.0, 2.0])
    optimizer.apply_gradients([(tf.constant([0.0, 0.0]), variable)])
    np.testing.assert_allclose(variable.numpy(), [0.75, 1.5])
    optimizer.reset_state()
    optimizer.apply_gradients([(tf.constant([3.0, 4.0]), variable)])
    np.testing.assert_allclose(variable.numpy(), [0.75, 1.5])


# One of each.


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", ["function", "xla"])
def test_lars_leaves_excluded_variables_without_ratio_and_without_decay(regime):
    arguments = {"learning_rate": 0.1, "weight_decay": 0.1, "trust_coefficient": 0.1}
    optimizer = tko.LARS(**arguments, exclude_from_layer_adaptation=["bias$", "norm/"])
    optimizer.exclude_from_weight_decay(var_names=["norm/"])
    names, starts = ["kernel", "bias", "norm/scale"], harness.starts([(5, 3)] * 3)
    gradients = harness.gradient_sequence(10, [(5, 3)] * 3)
    variables = [tf.Variable(s, dtype=tf.float32, name=n) for s, n in zip(starts, names)]
    values = harness.run(optimizer, gradients, starts, regime, variables)
    expected = []
    for i, name in enumerate(names):
        chosen = arguments | ({"weight_decay": 0.0} if "norm" in name else {})
        series = [batch[i] for batch in gradients]
        expected.append(oracles.lars(starts[i], series, **chosen, adapts=name == "kernel"))
    assert harness.distance_error(values, expected, starts) <= 2e-5


@pytest.mark.one_keras
def test_lars_without_a_size_or_a_gradient_takes_a_plain_step():
    zero, still = tf.Variable([0.0, 0.0]), tf.Variable([3.0, 4.0])
    optimizer = tko.LARS(0.5, weight_decay=0.5)
    gradients = [tf.constant([1.0, -1.0]), tf.zeros([2])]
    optimizer.apply_gradients(zip(gradients, [zero, still]))
    np.testing.assert_allclose(zero.numpy(), [-0.5, 0.5])
    np.testing.assert_allclose(still.numpy(), [2.25, 3.0])


@pytest.mark.one_keras
def test_adan_decays_before_its_step_where_that_is_asked_for():
    gradients = [batch[0] for batch in harness.gradient_sequence(8, [(5, 3)])]
    start = harness.starts([(5, 3)])[0]
    step, values = oracles.ALGORITHMS["adan"]
    slots, history, expected = {}, [], start
    for gradient in gradients:
        history.append(values | {"learning_rate": 0.01})
        expected = step(expected * (1 - 0.01 * 0.5), gradient, slots, history)
    options = {"weight_decay": 0.5, "proximal_decay": False}
    series = [[gradient] for gradient in gradients]
    values = harness.run(tko.Adan(0.01, **options), series, [start])
    assert harness.distance_error(values, [expected], [start]) <= 2e-5


@pytest.mark.one_keras
def test_rectified_steps_begin_after_the_fifth():
    """Of a gradient with a large element, which an adaptive step would divide."""
    variable, before, steps = tf.Variable([0.0, 0.0]), np.zeros(2), []
    optimizer = tko.RAdam(0.5)
    for _ in range(7):
        optimizer.apply_gradients([(tf.constant([4.0, 1.0]), variable)])
        steps.append(before - variable.numpy())
        before = variable.numpy()
    np.testing.assert_allclose(steps[:5], [[2.0, 0.5]] * 5, rtol=1e-5)
    np.testing.assert_allclose(steps[5], [0.5 * 0.0258211] * 2, rtol=2e-4)
    assert steps[6][0] == pytest.approx(steps[6][1], rel=1e-4)


@pytest.mark.one_keras
def test_nesterovs_momentum_is_corrected_by_the_product_of_scheduled_betas():
    beta = tko.schedules.Warmup(0.9, steps=4, initial_learning_rate=0.5)
    shapes = [(7,), (5, 3)]
    gradients, starts = harness.gradient_sequence(8, shapes), harness.starts(shapes)
    optimizer = tko.Adam(0.01, beta_1=beta, nesterov=True)
    values = harness.run(optimizer, gradients, starts, "function")
    step, defaults = oracles.ALGORITHMS["adam"]
    defaults, expected = defaults | {"learning_rate": 0.01, "nesterov": True}, []
    for i, weight in enumerate(starts):
        slots, history = {}, []
        for t, batch in enumerate(gradients):
            history.append(defaults | {"beta_1": 0.5 + 0.4 * min(t / 4, 1.0)})
            weight = step(weight, batch[i], slots, history)
        expected.append(weight)
    assert harness.distance_error(values, expected, starts) <= 1e-5


# Names.


def test_lazy_adam_is_a_name():
    for name in ("LazyAdam", "lazyadam", "tf_keras_optim>LazyAdam"):
        optimizer = tko.get(name)
        assert (type(optimizer), optimizer.sparse) == (tko.Adam, "lazy")
    described = {"class_name": "LazyAdam", "config": {"learning_rate": 0.25}}
    optimizer = tko.deserialize(described)
    assert (float(optimizer.learning_rate), optimizer.sparse) == (0.25, "lazy")
    described["config"]["sparse"] = {"table": "lazy"}
    assert tko.deserialize(described).sparse == {"table": "lazy"}
    with pytest.raises(ValueError, match="Did you mean 'lazyadam'"):
        tko.get("LasyAdam")
    assert tko.list_optimizers("lazy*") == []  # it is no class


def test_files_of_addons_lazy_adam_are_converted(tmp_path):
    path = tmp_path / "lazy.h5"
    shutil.copy(FIXTURES / "adam_legacy.h5", path)
    with h5py.File(path, "r+") as file:
        described = json.loads(file.attrs["training_config"])
        described["optimizer_config"]["class_name"] = "Addons>LazyAdam"
        described["optimizer_config"]["config"].pop("is_legacy_optimizer", None)
        file.attrs["training_config"] = json.dumps(described)
    convert = functools.partial(tko.convert, variables=variables_for(keras))
    lazy, plain = convert(path), convert(FIXTURES / "adam_legacy.h5")
    assert (type(lazy), lazy.sparse, plain.sparse) == (tko.Adam, "lazy", "exact")
    ours, theirs = state.by_name(lazy), state.by_name(plain)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])
