"""SOAP: against a float64 oracle, beside AdamW, and with its bases saved."""

import functools

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.steps import in_regime
from tf_keras_optim import testing

STEPS = 25
BOUND = 2e-5  # of the distance moved
RATE = 0.015625
# Square, so that a gradient has full rank: a longer side's basis is arbitrary at first.
VARIABLES = {
    "square/kernel": (6, 6),
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
    "adam": {"every": 7},
    "skip": {"every": 5, "start": "skip", "shampoo_beta": 0.9, "weight_decay": 0.5},
    "shorter": {"every": 6, "sides": "shorter", "beta_1": 0.9, "beta_2": 0.99},
    "small": {"every": 4, "largest_side": 4},
}
PERTURBED = {
    "beta_1": {"beta_1": 0.94},
    "beta_2": {"beta_2": 0.94},
    "shampoo_beta": {"shampoo_beta": 0.8},
    "decay": {"weight_decay": 0.0},
    "every": {"every": 8},
    "sides": {"sides": "shorter"},
    "start": {"start": "skip"},
    "rounds": {"rounds": 8},
}


def chosen(values, names):
    return [value for name, value in zip(VARIABLES, values) if name in names]


def named(names=VARIABLES, dtype=tf.float32):
    starts = chosen(STARTS, names)
    return [
        tf.Variable(s, dtype=dtype, name=n) for n, s in zip(chosen(VARIABLES, names), starts)
    ]


@functools.cache
def expected(case, names=tuple(VARIABLES), rounds=0, change=()):
    oracle, found = oracles.over_a_list("soap"), []
    for i, path in enumerate(VARIABLES):
        if path in names:
            options = CASES[case] | {"axes": AXES.get(path), "rounds": rounds} | dict(change)
            found.append(oracle(STARTS[i], [b[i] for b in GRADIENTS], RATE, **options))
    return found


def made(case="adam", **more):
    options = {"batch_axes": {"experts": 1}} if not more.pop("few", False) else {}
    return tko.Soap(RATE, **CASES[case] | options | more)


@functools.cache
def values_of(case, regime, names=tuple(VARIABLES)):
    optimizer = made(case, few="experts/kernel" not in names, jit_compile=False)
    gradients = [chosen(batch, names) for batch in GRADIENTS]
    return harness.run(optimizer, gradients, chosen(STARTS, names), regime, named(names))


RUNS = [
    ("adam", "eager", tuple(VARIABLES)),
    ("skip", "function", tuple(VARIABLES)),
    ("shorter", "function", FEW),
    ("small", "eager", ("square/kernel", "conv/kernel")),
    ("skip", "xla", FEW),
]


@pytest.mark.one_keras
@pytest.mark.parametrize(("case", "regime", "names"), RUNS)
def test_it_equals_the_oracle(case, regime, names):
    wanted = expected(case, names, 8 if regime == "xla" else 0)
    assert (
        harness.distance_error(values_of(case, regime, names), wanted, chosen(STARTS, names))
        <= BOUND
    )


@pytest.mark.one_keras
@pytest.mark.parametrize("change", PERTURBED)
def test_a_perturbed_oracle_fails(change):
    other = expected("adam", change=tuple(PERTURBED[change].items()))
    assert harness.distance_error(values_of("adam", "eager"), other, STARTS) > 5 * BOUND


@pytest.mark.one_keras
def test_float64_variables_have_its_digits():
    names = ("square/kernel", "experts/kernel")
    variables = named(names, tf.float64)
    optimizer = made("skip", jit_compile=False)
    for batch in GRADIENTS:
        optimizer.apply_gradients(zip(chosen(batch, names), variables))
    values = [v.numpy() for v in variables]
    assert harness.distance_error(values, expected("skip", names), chosen(STARTS, names)) < 1e-9


@pytest.mark.one_keras
@pytest.mark.parametrize("options", [{"every": STEPS + 1}, {"every": 3, "largest_side": 1}])
def test_with_the_axes_as_bases_it_is_adamw(options):
    gradients, start = [chosen(batch, FEW) for batch in GRADIENTS], chosen(STARTS, FEW)
    shared = {"beta_1": 0.95, "beta_2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1}
    wanted, values = (
        harness.run(optimizer, gradients, start, "function", named(FEW))
        for optimizer in (
            tko.AdamW(RATE, **shared, jit_compile=False),
            tko.Soap(RATE, **shared, **options, jit_compile=False),
        )
    )
    assert harness.distance_error(values, wanted, start) <= 2e-6


@pytest.mark.one_keras
@pytest.mark.parametrize("start", ["adam", "skip"])
def test_a_schedule_of_betas_that_stays_is_the_number(start):
    same = {n: tko.schedules.Warmup(0.95, 1, 0.95) for n in ("beta_1", "beta_2")}
    gradients, starts = ([b[0:1] for b in GRADIENTS[:9]], STARTS[:1])
    runs = [
        harness.run(
            tko.Soap(RATE, every=4, start=start, jit_compile=False, **more), gradients, starts
        )
        for more in ({}, same)
    ]
    assert harness.distance_error(runs[1], runs[0], starts) <= 1e-5


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", [tko.Soap, tko.Shampoo])
@pytest.mark.parametrize("regime", ["function", "xla"])
def test_what_xla_compiles_has_no_eigenvectors(cls, regime):
    (w,), optimizer = named(("square/kernel",)), cls(RATE)
    optimizer.build([w])
    step = in_regime(lambda gradient: optimizer.apply_gradients([(gradient, w)]), regime)
    graph = step.get_concrete_function(tf.TensorSpec([6, 6])).graph.as_graph_def()
    compiled, plain = set(), set()
    for function in graph.library.function:
        is_compiled = regime == "xla" or function.attr["_XlaMustCompile"].b
        (compiled if is_compiled else plain).update(node.op for node in function.node_def)
    assert {"MatMul", "BatchMatMulV2"} & compiled and "SelfAdjointEigV2" not in compiled
    assert ("SelfAdjointEigV2" in plain) is (regime == "function")


@pytest.mark.one_keras
def test_two_replicas(strategy):
    gradients = [chosen(batch, FEW) for batch in GRADIENTS]
    shares = [[[0.3 * g for g in batch], [0.7 * g for g in batch]] for batch in gradients]
    start = chosen(STARTS, FEW)
    _, values = harness.run_in_replicas(
        strategy, lambda: made(few=True, jit_compile=False), shares, start
    )
    assert harness.distance_error(values, expected("adam", FEW), start) <= BOUND


@pytest.mark.one_keras
def test_gradients_of_any_size_have_the_same_bases():
    """Where all products are 0 in float32 the bases stay."""
    start, gradients = STARTS[0], [batch[0] for batch in GRADIENTS]
    values = {}
    for size in (1.0, 1e-15, 1e15, 1e-25):
        w = tf.Variable(start, dtype=tf.float32, name="kernel")
        optimizer = tko.Soap(RATE, every=7, epsilon=0.0, jit_compile=False)
        for gradient in gradients:
            optimizer.apply_gradients([(tf.constant(size * gradient, tf.float32), w)])
        values[size] = w.numpy().astype("d")
        assert np.isfinite(values[size]).all()
        (slots,) = optimizer.state_dict()["variables"].values()
        for name in ("left_basis", "right_basis"):
            basis = np.asarray(slots[name], "d")
            np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-5)
    for size in (1e-15, 1e15):
        assert harness.distance_error([values[size]], [values[1.0]], [start]) <= 1e-3


@pytest.mark.one_keras
def test_it_resumes_with_its_bases():
    arguments = {"learning_rate": 0.02, "every": 4, "start": "skip", "jit_compile": False}
    assert not testing.check_optimizer(tko.Soap, arguments, only=["resume"]).failures


def small_model():
    keras = tf.keras
    keras.utils.set_random_seed(0)
    dense = [keras.layers.Dense(8, name="hidden"), keras.layers.Dense(3, name="head")]
    return keras.Sequential([keras.layers.Input((8,)), *dense])


@pytest.mark.one_keras
def test_every_format_keeps_the_bases(tmp_path):
    x, y = harness.classification_data(32)

    def compiled():
        model = small_model()
        model.compile(tko.Soap(0.02, every=3, jit_compile=False), harness.classification_loss())
        return model

    def fit(model):
        model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)

    model = compiled()
    fit(model)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    tko.save_state(tmp_path / "model.state", model.optimizer)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "ck"))
    weights = model.get_weights()
    fit(model)
    (slots, *_) = model.optimizer.state_dict()["variables"].values()
    assert not np.allclose(slots["left_basis"], np.eye(8), atol=0.1)
    loaded = [tf.keras.models.load_model(tmp_path / "model.keras")]
    for way in ("weights", "state", "checkpoint"):
        other = compiled()
        other.optimizer.build(other.trainable_variables)
        if way == "weights":
            other.load_weights(tmp_path / "model.weights.h5")
        elif way == "state":
            other.set_weights(weights)
            tko.load_state(tmp_path / "model.state", other.optimizer)
        else:
            checkpoint = tf.train.Checkpoint(model=other, optimizer=other.optimizer)
            checkpoint.read(str(tmp_path / "ck")).assert_existing_objects_matched()
        loaded.append(other)
    for other in loaded:
        fit(other)
        for value, wanted in zip(other.get_weights(), model.get_weights()):
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.one_keras
def test_a_step_with_eigenvectors_is_none_of_tflites(tmp_path):
    model = small_model()
    model.compile(tko.Soap(0.02, jit_compile=False), "mse")
    signature = (tf.TensorSpec([4, 8]), tf.TensorSpec([4, 3]))
    tko.export_training(model, tmp_path / "m", input_signature=signature, jit_compile=False)
    with pytest.raises(
        ValueError, match=r"SelfAdjointEigV2 \(eigenvectors\).*other signatures"
    ):
        tko.export_tflite(tmp_path / "m", tmp_path / "m.tflite", ["train"])
    tko.export_tflite(tmp_path / "m", tmp_path / "m.tflite", ["infer"])


@pytest.mark.one_keras
def test_options_work_together_and_an_overflow_counts_for_nothing():
    """Mixed precision with a scale that overflows at first, gathered gradients, averages."""
    keras = tf.keras
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = small_model()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    inner = tko.Soap(
        0.02, every=3, gradient_accumulation_steps=2, use_ema=True, global_clipnorm=1.0,
        slot_dtype="bfloat16", refresh_spread=True, jit_compile=False,
    )  # fmt: skip
    optimizer = tko.LossScaleOptimizer(inner, initial_scale=2.0**22)
    model.compile(optimizer, harness.classification_loss(), jit_compile=False)
    x, y = harness.classification_data()
    history = model.fit(x, y, epochs=8, batch_size=16, shuffle=False, verbose=0)
    assert history.history["loss"][-1] < 0.9 * history.history["loss"][0]
    assert int(optimizer.skipped_steps) > 0
    kernel, *_ = inner.explain(print_fn=lambda text: None)
    assert kernel.refreshed_every == 3
    assert (kernel.state["left_basis"], kernel.state["momentum"]) == ("float32", "bfloat16")


@pytest.mark.one_keras
def test_which_variables_have_which_bases():
    optimizer = tko.Soap(largest_side=5, adam_for=["skipped"])
    shapes = {
        "wide/kernel": (4, 6),
        "thin/kernel": (5, 1),
        "skipped/kernel": (4, 4),
        "tokens/embeddings": (4, 4),
        "large/kernel": (6, 6),
        "head/kernel": (4, 3),
    }
    optimizer.build([tf.Variable(tf.zeros(s), name=n) for n, s in shapes.items()])
    kept = {
        path: [name for name in slots if name.endswith("_basis")]
        for path, slots in optimizer.state_dict()["variables"].items()
    }
    assert kept.pop("wide/kernel") == ["left_basis"]
    assert kept.pop("head/kernel") == ["left_basis", "right_basis"]
    assert not any(kept.values())
    with pytest.raises(ValueError, match="`largest_side` decides what is kept"):
        optimizer.largest_side = 6
