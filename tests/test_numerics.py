"""Every optimizer against a float64 oracle and against the running Keras' own."""

import harness
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko

STEPS = 100
BOUND = 2e-5  # of the distance moved

CASES = {
    "sgd": (tko.SGD, oracles.sgd, {"learning_rate": 0.01}),
    "momentum": (tko.SGD, oracles.sgd, {"learning_rate": 0.01, "momentum": 0.9}),
    "nesterov": (
        tko.SGD,
        oracles.sgd,
        {"learning_rate": 0.01, "momentum": 0.9, "nesterov": True},
    ),
    "adam": (tko.Adam, oracles.adam, {"learning_rate": 0.01}),
    "amsgrad": (tko.Adam, oracles.adam, {"learning_rate": 0.01, "amsgrad": True}),
    "adamw": (tko.AdamW, oracles.adam, {"learning_rate": 0.01, "weight_decay": 0.1}),
}


def oracle_values(oracle, arguments):
    gradients = harness.gradient_sequence(STEPS)
    return [
        oracle(start, [batch[i] for batch in gradients], **arguments)
        for i, start in enumerate(harness.starts())
    ]


def our_values(cls, arguments, regime, **options):
    optimizer = cls(**arguments, **options)
    return harness.run(optimizer, harness.gradient_sequence(STEPS), harness.starts(), regime)


@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize("case", CASES)
def test_equals_float64_oracle(case, regime):
    cls, oracle, arguments = CASES[case]
    expected = oracle_values(oracle, arguments)
    values = our_values(cls, arguments, regime)
    assert harness.distance_error(values, expected, harness.starts()) <= BOUND


@pytest.mark.parametrize("case", CASES)
def test_equals_float64_oracle_without_xla(case):
    cls, oracle, arguments = CASES[case]
    expected = oracle_values(oracle, arguments)
    for regime in ("eager", "function"):
        values = our_values(cls, arguments, regime, jit_compile=False)
        assert harness.distance_error(values, expected, harness.starts()) <= BOUND


@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize("case", CASES)
def test_equals_kerass_own(case, regime):
    cls, _, arguments = CASES[case]
    peer = getattr(tf.keras.optimizers, cls.__name__)(**arguments)
    gradients, starts = harness.gradient_sequence(STEPS), harness.starts()
    # Eager Keras is slow, and its numbers do not depend on the regime.
    expected = harness.run(peer, gradients, starts, "xla" if regime == "xla" else "function")
    values = our_values(cls, arguments, regime)
    assert harness.distance_error(values, expected, starts) <= BOUND


PERTURBED = [
    ("momentum", {"momentum": 0.89}),
    ("nesterov", {"momentum": 0.89}),
    ("adam", {"beta_1": 0.89}),
    ("amsgrad", {"beta_1": 0.89}),
    ("adamw", {"beta_1": 0.89}),
    ("adam", {"beta_2": 0.998}),
    ("adamw", {"weight_decay": 0.101}),
    ("nesterov", {"nesterov": False}),
    ("amsgrad", {"amsgrad": False}),
    *((case, {"learning_rate": 0.01001}) for case in CASES),
    *((case, {"first_step": 2}) for case in CASES),
]


@pytest.mark.parametrize(("case", "change"), PERTURBED)
def test_a_perturbed_golden_fails(case, change):
    cls, oracle, arguments = CASES[case]
    wrong = oracle_values(oracle, arguments | change)
    values = our_values(cls, arguments, "eager")
    assert harness.distance_error(values, wrong, harness.starts()) > 2 * BOUND


def test_float64_variables_are_updated_in_float64():
    start = harness.starts()[1]
    gradients = [batch[1] for batch in harness.gradient_sequence(20)]
    variable = tf.Variable(start, dtype=tf.float64)
    optimizer = tko.Adam(learning_rate=0.5)  # exact in float32
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float64), variable)])
    expected = oracles.adam(start, gradients, learning_rate=0.5)
    assert harness.distance_error([variable.numpy()], [expected], [start]) <= 1e-12


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_low_precision_variables_keep_float32_slots(dtype):
    variable = tf.Variable(tf.ones([4], dtype))
    optimizer = tko.Adam(0.125)
    for _ in range(3):
        optimizer.apply_gradients([(tf.ones([4], dtype), variable)])
    assert {v.dtype for v in optimizer.variables[-2:]} <= {tf.float32, "float32"}
    assert variable.numpy().astype("f") == pytest.approx([0.625] * 4, abs=0.01)


def test_adamw_without_decay_is_adam():
    gradients, starts = harness.gradient_sequence(10), harness.starts()
    adamw = harness.run(tko.AdamW(0.01, weight_decay=0.0), gradients, starts)
    adam = harness.run(tko.Adam(0.01), gradients, starts)
    for ours, other in zip(adamw, adam):
        assert (ours == other).all()
