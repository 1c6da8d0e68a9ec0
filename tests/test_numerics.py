"""Every optimizer against a float64 oracle and against the running Keras' own."""

import functools
import pathlib
import re

import accuracy
import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.steps import in_regime

STEPS = 100
BOUND = 2e-5  # of the distance moved

# Every optimizer as its record has it, and others; what both have, as it stands here.
OTHERS = {
    "sgd": (tko.SGD, {"learning_rate": 0.01}),
    "momentum": (tko.SGD, {"learning_rate": 0.01, "momentum": 0.9}),
    "nesterov": (tko.SGD, {"learning_rate": 0.01, "momentum": 0.9, "nesterov": True}),
    "amsgrad": (tko.Adam, {"learning_rate": 0.01, "amsgrad": True}),
    "adam_nesterov": (tko.Adam, {"learning_rate": 0.01, "nesterov": True}),
    "adamw_nesterov": (
        tko.AdamW,
        {"learning_rate": 0.01, "weight_decay": 0.1, "beta_1": 0.5, "nesterov": True},
    ),
    "rmsprop": (tko.RMSprop, {"learning_rate": 0.01}),
    "rmsprop_centered": (
        tko.RMSprop,
        {"learning_rate": 0.01, "momentum": 0.5, "centered": True},
    ),
    "ftrl": (
        tko.Ftrl,
        {
            "learning_rate": 0.1,
            "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.02,
            "l2_shrinkage_regularization_strength": 0.03,
            "beta": 0.1,
        },
    ),
    "lamb": (tko.Lamb, {"learning_rate": 0.01, "weight_decay": 0.1}),
    "lamb_paper": (
        tko.Lamb,
        {"learning_rate": 0.01, "weight_decay": 0.1, "decay_in_trust_ratio": True},
    ),
    "adafactor_mean": (tko.Adafactor, {"learning_rate": 0.2, "beta_1": 0.9}),
    # Rectified from the third step on; with the default from the sixth.
    "radam_early": (
        tko.RAdam,
        {
            "learning_rate": 0.01,
            "beta_2": 0.99,
            "threshold": 4.0,
            "epsilon": 0.01,
            "epsilon_after_correction": False,
        },
    ),
    "adabelief_rectified": (tko.AdaBelief, {"learning_rate": 0.01, "rectify": True}),
    "adopt_unlimited": (
        tko.ADOPT,
        {"learning_rate": 0.01, "beta_2": 0.9, "clip_power": None, "weight_decay": 0.1},
    ),
    "ademamix_warm": (tko.AdEMAMix, {"learning_rate": 0.001, "warmup_steps": 80}),
    "adan_decay": (tko.Adan, {"learning_rate": 0.01, "weight_decay": 0.1}),
    "mars_decay": (tko.MARS, {"learning_rate": 0.01, "gamma": 0.5, "weight_decay": 0.1}),
    "prodigy_estimate": (
        tko.Prodigy,
        {
            "learning_rate": 0.02,
            "initial_d": 0.05,
            "weight_decay": 0.1,
            "d_coefficient": 0.9,
            "beta_3": 0.99,
        },
    ),
    "schedulefreeadamw_warm": (
        tko.ScheduleFreeAdamW,
        {
            "learning_rate": 0.02,
            "beta_1": 0.95,
            "warmup_steps": 20,
            "weight_decay": 0.1,
            "averaging_power": 1.0,
        },
    ),
    "schedulefreeadamw_rectified": (
        tko.ScheduleFreeAdamW,
        {"learning_rate": 0.02, "beta_2": 0.99, "rectify": True},
    ),
    "schedulefreesgd_warm": (
        tko.ScheduleFreeSGD,
        {"learning_rate": 0.2, "momentum": 0.8, "warmup_steps": 20, "weight_decay": 0.1},
    ),
    "lars_decay": (
        tko.LARS,
        {
            "learning_rate": 0.5,
            "nesterov": True,
            "trust_coefficient": 0.01,
            "weight_decay": 0.1,
            "epsilon": 0.1,
        },
    ),
}
# Keras' ScheduleFreeAdamW is another algorithm: see test_evaluation_weights.
_SCHEDULE_FREE = ("", "_warm", "_rectified")
NOT_IN_KERAS = (
    *(f"schedulefreeadamw{end}" for end in _SCHEDULE_FREE),
    "lamb_paper",
    "adam_nesterov",
    "adamw_nesterov",
    "adafactor_mean",
)
CASES = {r.name.lower(): (r.cls, dict(r.example)) for r in harness.RECORDS} | OTHERS


@functools.cache
def oracle_values(case, change=()):
    cls, arguments = CASES[case]
    gradients = harness.gradient_sequence(STEPS)
    return harness.expected(cls, harness.starts(), gradients, **arguments | dict(change))


def values_of(optimizer, regime):
    """The variables after all the steps, and after as many as docs/accuracy.md shows."""
    variables = harness.for_keras(harness.starts())
    optimizer.build(variables)
    step = in_regime(
        lambda batch: optimizer.apply_gradients(list(zip(batch, variables))), regime
    )
    for number, batch in enumerate(harness.gradient_sequence(STEPS), 1):
        step([tf.constant(g, tf.float32) for g in batch])
        if number == accuracy.STEPS:
            middle = [v.numpy().astype("d") for v in variables]
    return [v.numpy().astype("d") for v in variables], middle


# Functions, as in the table of docs/accuracy.md, under Keras 3; eager code and XLA in turn
# under Keras 2. The conformance kit compares all three for one optimizer of each kind.
PLACES = {case: i for i, case in enumerate(CASES)}


def regime_of(case):
    return "function" if harness.IS_KERAS_3 else ("eager", "xla")[PLACES[case] % 2]


@functools.cache
def our_values(case):
    cls, arguments = CASES[case]
    return values_of(cls(**arguments), regime_of(case))


@functools.cache
def peer_values(case):
    """The same by the running Keras; `None` where it has no such optimizer."""
    cls, arguments = CASES[case]
    peer = getattr(tf.keras.optimizers, cls.__name__, None)
    if peer is None or case in NOT_IN_KERAS:
        return None
    # Eager Keras is slow, and its numbers do not depend on the regime. Except for Nadam of
    # Keras 2, which in a function multiplies its product once for every variable.
    is_nadam_2 = cls is tko.Nadam and not harness.IS_KERAS_3
    return values_of(peer(**arguments), "eager" if is_nadam_2 else "function")


def error_of(values, case, change=()):
    return harness.distance_error(values, oracle_values(case, change), harness.starts())


@pytest.mark.parametrize("case", CASES)
def test_equals_float64_oracle(case):
    assert error_of(our_values(case)[0], case) <= BOUND


@pytest.mark.one_keras
@pytest.mark.parametrize("case", CASES)
def test_equals_float64_oracle_without_xla(case):
    cls, arguments = CASES[case]
    regime = ("eager", "function")[PLACES[case] % 2]
    assert error_of(values_of(cls(**arguments, jit_compile=False), regime)[0], case) <= BOUND


@pytest.mark.parametrize("case", CASES)
def test_equals_kerass_own(case):
    expected = peer_values(case)
    if expected is None:
        pytest.skip(f"this Keras has no such optimizer as {case}")
    values, _ = our_values(case)
    assert harness.distance_error(values, expected[0], harness.starts()) <= BOUND


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
    ("adam_nesterov", {"nesterov": False}),
    ("adamw_nesterov", {"beta_1": 0.49}),
    ("rmsprop", {"rho": 0.89}),
    ("rmsprop_centered", {"momentum": 0.49}),
    ("rmsprop_centered", {"centered": False}),
    ("adadelta", {"rho": 0.94}),
    ("adagrad", {"initial_accumulator_value": 0.101}),
    ("adamax", {"beta_1": 0.89}),
    ("adamax", {"beta_2": 0.998}),
    ("adafactor", {"beta_2_decay": -0.79}),
    ("adafactor", {"relative_step": False}),
    ("adafactor", {"clip_threshold": 1.01}),
    ("nadam", {"beta_1": 0.89}),
    ("nadam", {"beta_2": 0.998}),
    ("ftrl", {"l1_regularization_strength": 0.011}),
    ("ftrl", {"l2_shrinkage_regularization_strength": 0.031}),
    ("lion", {"beta_1": 0.89}),
    ("lion", {"beta_2": 0.98}),
    ("lamb", {"beta_1": 0.89}),
    ("lamb", {"weight_decay": 0.101}),
    ("lamb_paper", {"weight_decay": 0.101}),
    ("lamb_paper", {"decay_in_trust_ratio": False}),
    ("muon", {"momentum": 0.94}),
    ("muon", {"weight_decay": 0.0}),
    ("adafactor_mean", {"beta_1": 0.89}),
    ("radam", {"threshold": 6.5}),
    ("radam", {"beta_2": 0.998}),
    ("radam_early", {"epsilon_after_correction": True}),
    ("yogi", {"beta_2": 0.998}),
    ("yogi", {"initial_accumulator_value": 1e-3}),
    ("adabelief", {"beta_1": 0.89}),
    ("adabelief", {"epsilon": 1e-5}),
    ("adabelief_rectified", {"rectify": False}),
    ("adopt", {"clip_power": 0.24}),
    ("adopt", {"beta_2": 0.999}),
    ("adopt_unlimited", {"weight_decay": 0.101}),
    ("ademamix", {"beta_3": 0.989}),
    ("ademamix_warm", {"warmup_steps": 79}),
    ("ademamix_warm", {"alpha": 4.9}),
    ("adan", {"beta_2": 0.91}),
    ("adan", {"beta_3": 0.98}),
    ("adan_decay", {"weight_decay": 0.101}),
    ("mars", {"beta_1": 0.94}),
    ("mars", {"gamma": 0.051}),
    ("mars", {"adam_beta_2": 0.94}),
    ("mars_decay", {"weight_decay": 0.101}),
    ("mars_decay", {"beta_2": 0.98}),
    ("came", {"beta_1": 0.89}),
    ("came", {"beta_2": 0.998}),
    ("came", {"beta_3": 0.991}),
    ("came", {"clip_threshold": 1.01}),
    ("came", {"epsilon_2": 1e-3}),
    ("psgld", {"rho": 0.98}),
    ("psgld", {"epsilon": 1e-3}),
    ("sghmc", {"momentum": 0.89}),
    ("prodigy", {"beta_1": 0.89}),
    ("prodigy", {"growth_rate": 1.021}),
    ("prodigy", {"initial_d": 0.0101}),
    ("prodigy_estimate", {"beta_2": 0.998}),
    ("prodigy_estimate", {"weight_decay": 0.101}),
    ("prodigy_estimate", {"use_bias_correction": True}),
    ("prodigy_estimate", {"safeguard_warmup": True}),
    ("prodigy_estimate", {"d_coefficient": 0.91}),
    ("prodigy_estimate", {"beta_3": 0.98}),
    ("schedulefreeadamw", {"beta_1": 0.89}),
    ("schedulefreeadamw", {"beta_2": 0.998}),
    ("schedulefreeadamw_warm", {"warmup_steps": 19}),
    ("schedulefreeadamw_warm", {"averaging_power": 0.9}),
    ("schedulefreeadamw_warm", {"rate_power": 1.9}),
    ("schedulefreeadamw_warm", {"weight_decay": 0.101}),
    ("schedulefreeadamw_rectified", {"rectify": False}),
    ("schedulefreesgd", {"momentum": 0.89}),
    ("schedulefreesgd_warm", {"weight_decay": 0.101}),
    ("lars", {"momentum": 0.89}),
    ("lars_decay", {"epsilon": 0.11}),
    ("lars_decay", {"weight_decay": 0.101}),
    ("lars_decay", {"nesterov": False}),
    ("shampoo", {"every": 21}),
    ("shampoo", {"beta_2": 0.998}),
    ("shampoo", {"root": 2}),
    ("soap", {"every": 11}),
    ("soap", {"shampoo_beta": 0.94}),
    ("soap", {"weight_decay": 0.011}),
    *((case, {"learning_rate": 0.01001}) for case in CASES),
    *((case, {"first_step": 2}) for case in CASES),
]


@pytest.mark.parametrize(("case", "change"), PERTURBED)
def test_a_perturbed_golden_fails(case, change):
    assert error_of(our_values(case)[0], case, tuple(change.items())) > 2 * BOUND


@pytest.mark.one_keras
def test_float64_variables_are_updated_in_float64():
    start = harness.starts()[1]
    gradients = [batch[1] for batch in harness.gradient_sequence(20)]
    variable = tf.Variable(start, dtype=tf.float64)
    optimizer = tko.Adam(learning_rate=0.5)  # exact in float32
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient, tf.float64), variable)])
    expected = oracles.adam(start, gradients, learning_rate=0.5)
    assert harness.distance_error([variable.numpy()], [expected], [start]) <= 1e-12


@pytest.mark.one_keras
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_slot_dtype_of_low_precision_variables_is_float32(dtype):
    variable = tf.Variable(tf.ones([4], dtype))
    optimizer = tko.Adam(0.125)
    for _ in range(3):
        optimizer.apply_gradients([(tf.ones([4], dtype), variable)])
    assert {v.dtype for v in optimizer.variables[-2:]} <= {tf.float32, "float32"}
    assert variable.numpy().astype("f") == pytest.approx([0.625] * 4, abs=0.01)


@pytest.mark.one_keras
def test_adamw_without_decay_is_adam():
    gradients, starts = harness.gradient_sequence(10), harness.starts()
    adamw = harness.run(tko.AdamW(0.01, weight_decay=0.0), gradients, starts)
    adam = harness.run(tko.Adam(0.01), gradients, starts)
    for ours, other in zip(adamw, adam):
        assert (ours == other).all()


@pytest.mark.one_keras
def test_adafactor_keeps_row_and_column_statistics_only():
    optimizer = tko.Adafactor()
    optimizer.build([tf.Variable(tf.ones([1000, 1000]))])
    assert [tuple(v.shape) for v in optimizer.variables[-2:]] == [(1000,), (1000,)]
    assert sum(int(np.prod(v.shape)) for v in optimizer.variables if len(v.shape)) == 2000


@pytest.mark.one_keras
def test_adafactor_honours_its_switches():
    gradients, starts = harness.gradient_sequence(20), harness.starts()
    for relative_step in (True, False):
        for scale_parameter in (True, False):
            switches = {"relative_step": relative_step, "scale_parameter": scale_parameter}
            values = harness.run(tko.Adafactor(0.5, **switches), gradients, starts)
            expected = [
                oracles.adafactor(start, [batch[i] for batch in gradients], 0.5, **switches)
                for i, start in enumerate(starts)
            ]
            assert harness.distance_error(values, expected, starts) <= BOUND


@pytest.mark.one_keras
def test_nadams_product_is_taken_once_per_update_and_restored():
    gradients = harness.gradient_sequence(6)
    variables = [tf.Variable(v, dtype=tf.float32) for v in harness.starts()]
    first, second = tko.Nadam(0.01), tko.Nadam(0.01)
    harness.run(first, gradients[:3], [], variables=variables)
    product = first.variables[-1].numpy()
    mu = [0.9 * (1 - 0.5 * 0.96**t) for t in (1, 2, 3)]
    assert product == pytest.approx(np.prod(mu), rel=1e-6)
    second.build(variables)
    second.set_weights(first.get_weights())
    values = harness.run(second, gradients[3:], [], variables=variables)
    expected = [
        oracles.nadam(start, [batch[i] for batch in gradients], 0.01)
        for i, start in enumerate(harness.starts())
    ]
    assert harness.distance_error(values, expected, harness.starts()) <= BOUND


@pytest.mark.one_keras
def test_lamb_without_a_size_takes_a_plain_step():
    variable = tf.Variable([0.0, 0.0])
    optimizer = tko.Lamb(0.5)
    optimizer.apply_gradients([(tf.constant([1.0, -1.0]), variable)])
    assert variable.numpy() == pytest.approx([-0.5, 0.5], abs=1e-5)


@pytest.mark.one_keras
def test_centered_rmsprop_survives_a_constant_gradient():
    variable = tf.Variable(tf.ones([50]))
    gradient = tf.constant(np.linspace(0.1, 1.0, 50), tf.float32)
    optimizer = tko.RMSprop(1e-6, centered=True, epsilon=1e-12, rho=0.5)
    for _ in range(60):
        optimizer.apply_gradients([(gradient, variable)])
    assert np.isfinite(variable.numpy()).all()


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", harness.REGIMES)
@pytest.mark.parametrize("inside", [True, False])
def test_lamb_leaves_excluded_variables_without_ratio_and_without_decay(inside, regime):
    arguments = {"learning_rate": 0.01, "weight_decay": 0.1, "decay_in_trust_ratio": inside}
    optimizer = tko.Lamb(**arguments, exclude_from_layer_adaptation=["bias$", "norm/"])
    optimizer.exclude_from_weight_decay(var_names=["norm/"])
    names, starts = ["kernel", "bias", "norm/scale"], harness.starts([(5, 3)] * 3)
    gradients = harness.gradient_sequence(20, [(5, 3)] * 3)
    variables = [tf.Variable(s, dtype=tf.float32, name=n) for s, n in zip(starts, names)]
    values = harness.run(optimizer, gradients, starts, regime, variables)
    expected = []
    for i, name in enumerate(names):
        chosen = arguments | ({"weight_decay": 0.0} if "norm" in name else {})
        series = [batch[i] for batch in gradients]
        expected.append(oracles.lamb(starts[i], series, **chosen, adapts=name == "kernel"))
    assert harness.distance_error(values, expected, starts) <= BOUND


PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"


@pytest.mark.one_keras(3)  # the table's peer is Keras 3
@pytest.mark.parametrize("name", accuracy.ARGUMENTS)
def test_the_table_of_accuracy_is_true(name):
    cells = re.search(rf"^\| {name} \| (.*?) \|$", PAGE.read_text(), re.M).group(1).split(" | ")
    arguments = accuracy.ARGUMENTS[name]
    assert cells[0] == ", ".join(f"{k}={v}" for k, v in arguments.items())
    case = name.lower()
    if CASES[case][1] == arguments:
        theirs = peer_values(case) and peer_values(case)[1]
        expected, ours = accuracy.expected(name), our_values(case)[1]
    else:
        expected, ours, theirs = accuracy.values(name)
    moved = np.max(np.abs(expected[-1] - harness.starts()[-1]))
    found = [np.ravel(v[-1])[-1] for v in (expected, ours, theirs) if v is not None]
    if not harness.IS_KERAS_3:
        found = found[:2]
    for text, value in zip(cells[1:], found):
        assert abs(float(text) - value) <= 1e-6 * moved + 1e-7
    assert harness.distance_error(ours, expected, harness.starts()) <= 3 * float(cells[4])


def test_the_table_has_all_of_them():
    assert set(accuracy.ARGUMENTS) == {cls.__name__ for cls in harness.OPTIMIZERS}
