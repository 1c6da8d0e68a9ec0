"""Shampoo: against a float64 oracle, and beside what its steps have their lengths from."""

import functools

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim import testing

STEPS = 20
BOUND = 2e-5  # of the distance moved
RATE = 0.015625
VARIABLES = {
    "square/kernel": (6, 6),
    "wide/kernel": (5, 7),
    "conv/kernel": (2, 2, 1, 4),
    "attention/query/kernel": (4, 2, 2),
    "experts/kernel": (2, 4, 4),
    "square/bias": (6,),
    "tokens/embeddings": (4, 4),
}
AXES = {
    "attention/query/kernel": ((0,), (1, 2), ()),
    "experts/kernel": ((1,), (2,), (0,)),
    "tokens/embeddings": (),
    "square/bias": (),
}
FEW = ("square/kernel", "square/bias")  # each shape is traced, and compiled under XLA
SHAPES = list(VARIABLES.values())
GRADIENTS = harness.gradient_sequence(STEPS, SHAPES)
STARTS = harness.starts(SHAPES)
CASES = {
    "adam": ({"every": 7}, {}),
    "blocks": ({"every": 3, "block": 3, "root": 2, "start": 4, "nesterov": True}, {"first": 4}),
    "sgd": ({"every": 6, "grafting": "sgd", "weight_decay": 0.5, "beta_2": 0.9}, {}),
    "rmsprop": ({"every": 8, "grafting": "rmsprop", "grafting_epsilon": 0.1}, {}),
    "own": ({"every": 5, "grafting": None, "epsilon": 1e-3, "block": 4}, {}),
}
PERTURBED = {
    "beta_1": {"beta_1": 0.89},
    "beta_2": {"beta_2": 0.99},
    "epsilon": {"epsilon": 1e-3},
    "every": {"every": 8},
    "first": {"first": 8},
    "block": {"block": 3},
    "grafting": {"grafting": "sgd"},
    "root": {"root": 2},
    "nesterov": {"nesterov": True},
}


def chosen(values, names):
    return [value for name, value in zip(VARIABLES, values) if name in names]


def named(names=VARIABLES):
    starts = chosen(STARTS, names)
    return [
        tf.Variable(s, dtype=tf.float32, name=n)
        for n, s in zip(chosen(VARIABLES, names), starts)
    ]


@functools.cache
def expected(case, names=tuple(VARIABLES), change=()):
    oracle, found = oracles.over_a_list("shampoo"), []
    given, more = CASES[case]
    options = {n: v for n, v in given.items() if n != "start"} | more | dict(change)
    for i, path in enumerate(VARIABLES):
        if path in names:
            series = [batch[i] for batch in GRADIENTS]
            found.append(oracle(STARTS[i], series, RATE, **options, axes=AXES.get(path)))
    return found


def made(case, few=False, **more):
    options = {} if few else {"batch_axes": {"experts": 1}}
    return tko.Shampoo(RATE, **CASES[case][0] | options | more)


@functools.cache
def values_of(case, regime, names=tuple(VARIABLES)):
    optimizer = made(case, "experts/kernel" not in names, jit_compile=False)
    gradients = [chosen(batch, names) for batch in GRADIENTS]
    return harness.run(optimizer, gradients, chosen(STARTS, names), regime, named(names))


RUNS = [
    ("adam", "eager", tuple(VARIABLES)),
    ("blocks", "function", tuple(VARIABLES)),
    ("sgd", "eager", FEW),
    ("rmsprop", "function", FEW),
    ("own", "function", FEW),
    ("adam", "xla", FEW),
]


@pytest.mark.one_keras
@pytest.mark.parametrize(("case", "regime", "names"), RUNS)
def test_it_equals_the_oracle(case, regime, names):
    values, start = values_of(case, regime, names), chosen(STARTS, names)
    assert harness.distance_error(values, expected(case, names), start) <= BOUND


@pytest.mark.one_keras
@pytest.mark.parametrize("change", PERTURBED)
def test_a_perturbed_oracle_fails(change):
    other = expected("adam", change=tuple(PERTURBED[change].items()))
    assert harness.distance_error(values_of("adam", "eager"), other, STARTS) > 5 * BOUND


@pytest.mark.one_keras
@pytest.mark.parametrize("grafting", ["adam", "sgd"])
def test_before_there_are_roots_it_is_what_it_is_grafted_on(grafting):
    gradients, start = [chosen(batch, FEW) for batch in GRADIENTS], chosen(STARTS, FEW)
    optimizer = tko.Shampoo(RATE, every=STEPS, grafting=grafting, jit_compile=False)
    values = harness.run(optimizer, gradients, start, "function", named(FEW))
    if grafting == "adam":
        adam = tko.Adam(RATE, epsilon=1e-8, epsilon_after_correction=True, jit_compile=False)
        wanted = harness.run(adam, gradients, start, "function", named(FEW))
    else:
        wanted = []
        for i, weight in enumerate(start):
            mean = 0.0
            for t, batch in enumerate(gradients, 1):
                mean = 0.9 * mean + 0.1 * batch[i]
                weight = weight - RATE * mean / (1 - 0.9**t)
            wanted.append(weight)
    assert harness.distance_error(values, wanted, start) <= 2e-6


@pytest.mark.one_keras
def test_roots_that_are_there_serve_on_where_they_are_computed_less_often():
    found = []
    for every in (4, 50):
        w = tf.Variable(STARTS[0], dtype=tf.float32, name="kernel")
        optimizer = tko.Shampoo(RATE, every=4, jit_compile=False)
        for number, batch in enumerate(GRADIENTS[:7]):
            if number == 5:
                optimizer.every = every
            optimizer.apply_gradients([(tf.constant(batch[0], tf.float32), w)])
        found.append(w.numpy())
    np.testing.assert_array_equal(*found)


@pytest.mark.one_keras
def test_two_replicas(strategy):
    gradients = [chosen(batch, FEW) for batch in GRADIENTS]
    shares = [[[0.3 * g for g in batch], [0.7 * g for g in batch]] for batch in gradients]
    start = chosen(STARTS, FEW)
    _, values = harness.run_in_replicas(
        strategy, lambda: made("adam", True, jit_compile=False), shares, start
    )
    assert harness.distance_error(values, expected("adam", FEW), start) <= BOUND


@pytest.mark.one_keras
def test_it_resumes_with_its_roots():
    arguments = {"learning_rate": 0.02, "every": 4, "block": 4, "jit_compile": False}
    assert not testing.check_optimizer(tko.Shampoo, arguments, only=["resume"]).failures


@pytest.mark.one_keras
def test_a_factor_of_zeros_or_of_any_size_does_no_harm():
    start, gradients = STARTS[0], [batch[0] for batch in GRADIENTS]
    values = {}
    for size in (1.0, 1e-15, 1e15, 0.0):
        w = tf.Variable(start, dtype=tf.float32, name="kernel")
        optimizer = tko.Shampoo(RATE, every=4, grafting_epsilon=0.0, jit_compile=False)
        for gradient in gradients:
            optimizer.apply_gradients([(tf.constant(size * gradient, tf.float32), w)])
        values[size] = w.numpy().astype("d")
    np.testing.assert_array_equal(values[0.0], start)
    for size in (1e-15, 1e15):
        assert harness.distance_error([values[size]], [values[1.0]], [start]) <= 1e-3


@pytest.mark.one_keras
def test_options_work_together_and_an_overflow_counts_for_nothing():
    """Mixed precision with a scale that overflows at first, gathered gradients, averages."""
    keras = tf.keras
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = harness.small_model()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    inner = tko.Shampoo(
        0.02, every=3, block=8, gradient_accumulation_steps=2, use_ema=True,
        global_clipnorm=1.0, slot_dtype="bfloat16", refresh_spread=True, jit_compile=False,
    )  # fmt: skip
    optimizer = tko.LossScaleOptimizer(inner, initial_scale=2.0**22)
    model.compile(optimizer, harness.classification_loss(), jit_compile=False)
    x, y = harness.classification_data()
    history = model.fit(x, y, epochs=8, batch_size=16, shuffle=False, verbose=0)
    assert history.history["loss"][-1] < 0.9 * history.history["loss"][0]
    assert int(optimizer.skipped_steps) > 0
    kernel, *_ = inner.explain(print_fn=lambda text: None)
    assert (kernel.refreshed_every, kernel.state["left_root"]) == (3, "float32")
