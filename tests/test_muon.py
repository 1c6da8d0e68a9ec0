"""Muon: which variables are matrices, against a float64 oracle and Keras' own."""

import functools
import re

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim import testing

STEPS = 12
BOUND = 2e-5  # of the distance moved
POLAR = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]
# By path: the shape, and rows, columns and batch of the matrix; () for AdamW.
VARIABLES = {
    "tokens/embeddings": ((7, 4), ()),
    "wide/kernel": ((6, 9), ((0,), (1,), ())),
    "tall/kernel": ((9, 6), ((0,), (1,), ())),
    "square/kernel": ((16, 16), ((0,), (1,), ())),
    "square/bias": ((16,), ()),
    "conv/kernel": ((3, 3, 4, 5), ((0, 1, 2), (3,), ())),
    "attention/query/kernel": ((8, 2, 3), ((0,), (1, 2), ())),
    "attention/query/bias": ((2, 3), ()),
    "attention/attention_output/kernel": ((2, 3, 8), ((0, 1), (2,), ())),
    "head/kernel": ((6, 4), ()),
}
HEADS = {
    "attention/query/kernel": ((0,), (2,), (1,)),
    "attention/attention_output/kernel": ((1,), (2,), (0,)),
}
CASES = {
    "default": ({}, {}),
    "other": (
        {
            "polynomial": "polar",
            "scale": "spectral",
            "normalize": "neurons",
            "per_head": True,
            "adam_lr_ratio": 0.5,
            "adam_weight_decay": 0.2,
            "weight_decay": 0.1,
        },
        {
            "triples": POLAR,
            "safety": 1.02,
            "spectral": True,
            "neuron_beta": 0.95,
            "adam_lr_ratio": 0.5,
            "adam_weight_decay": 0.2,
            "weight_decay": 0.1,
        },
    ),
}
FEW = ("wide/kernel", "attention/query/kernel", "head/kernel")  # XLA compiles each shape
SHAPES = [shape for shape, _ in VARIABLES.values()]
GRADIENTS = harness.gradient_sequence(STEPS, SHAPES)
STARTS = harness.starts(SHAPES)
PERTURBED = {
    "momentum": {"momentum": 0.9},
    "nesterov": {"nesterov": False},
    "decay": {"weight_decay": 0.0},
    "adam_decay": {"adam_weight_decay": 0.0},
    "steps": {"triples": ((3.4445, -4.775, 2.0315),) * 4},
    "safety": {"safety": 1.01},
    "scale": {"spectral": True},
    "beta": {"adam_beta_2": 0.99},
}


def chosen(values, names):
    """Those of a list of one for each variable that belong to some of them."""
    return [value for name, value in zip(VARIABLES, values) if name in names]


def named(dtype=tf.float32, names=VARIABLES):
    starts = chosen(STARTS, names)
    return [
        tf.Variable(s, dtype=dtype, name=n) for n, s in zip(chosen(VARIABLES, names), starts)
    ]


def axes_of(case, path):
    return HEADS.get(path, VARIABLES[path][1]) if case == "other" else VARIABLES[path][1]


@functools.cache
def expected(case, change=()):
    oracle = oracles.over_a_list("muon")
    more = CASES[case][1] | dict(change)
    return [
        oracle(STARTS[i], [b[i] for b in GRADIENTS], 0.02, axes=axes_of(case, path), **more)
        for i, path in enumerate(VARIABLES)
    ]


@functools.cache
def values_of(case, regime, names=tuple(VARIABLES)):
    jit = "auto" if names == FEW else False
    optimizer = tko.Muon(0.02, jit_compile=jit, **CASES[case][0])
    gradients = [chosen(batch, names) for batch in GRADIENTS]
    return harness.run(optimizer, gradients, chosen(STARTS, names), regime, named(names=names))


RUNS = [
    ("default", "eager", tuple(VARIABLES)),
    ("other", "function", tuple(VARIABLES)),
    ("other", "xla", FEW),  # the conformance kit has kernels that XLA compiles
]


@pytest.mark.one_keras
@pytest.mark.parametrize(("case", "regime", "names"), RUNS)
def test_it_equals_the_oracle(case, regime, names):
    wanted, start = chosen(expected(case), names), chosen(STARTS, names)
    assert harness.distance_error(values_of(case, regime, names), wanted, start) <= BOUND


@pytest.mark.one_keras
@pytest.mark.parametrize("change", PERTURBED)
def test_a_perturbed_oracle_fails(change):
    other = expected(
        "default",
        tuple((n, tuple(v) if n == "triples" else v) for n, v in PERTURBED[change].items()),
    )
    assert harness.distance_error(values_of("default", "eager"), other, STARTS) > 5 * BOUND


@pytest.mark.one_keras
def test_two_replicas(strategy):
    gradients = [chosen(batch, FEW) for batch in GRADIENTS]
    shares = [[[0.3 * g for g in batch], [0.7 * g for g in batch]] for batch in gradients]

    def replica(batches):
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply_gradients(zip([tf.gather(g, number) for g in batches], variables))

    with strategy.scope():
        variables = named(names=FEW)
        optimizer = tko.Muon(0.02, jit_compile=False, **CASES["other"][0])
        optimizer.build(variables)
    step = tf.function(lambda batches: strategy.run(replica, args=(batches,)), autograph=False)
    for batch in shares:
        step([tf.constant(np.stack(g), tf.float32) for g in zip(*batch)])
    values = [v.numpy().astype("d") for v in variables]
    wanted, start = chosen(expected("other"), FEW), chosen(STARTS, FEW)
    assert harness.distance_error(values, wanted, start) <= BOUND


@pytest.mark.one_keras
def test_float64_and_narrow_variables():
    start, rate = chosen(STARTS, FEW), 0.015625  # which float32 holds exactly
    gradients = [chosen(batch, FEW) for batch in GRADIENTS]
    wanted, values = [], {}
    for i, name in enumerate(FEW):
        series = [batch[i] for batch in gradients]
        axes = VARIABLES[name][1]
        wanted.append(oracles.over_a_list("muon")(start[i], series, rate, axes=axes))
    for dtype in (tf.float64, tf.bfloat16):
        variables = named(dtype, FEW)
        optimizer = tko.Muon(rate, compute_dtype="bfloat16", jit_compile=False)
        optimizer.build(variables)
        for batch in gradients:
            given = [
                tf.constant(g, tf.float64 if dtype == tf.float64 else tf.float32) for g in batch
            ]
            optimizer.apply_gradients(zip(given, variables))
        values[dtype] = [v.numpy().astype("d") for v in variables]
    assert harness.distance_error(values[tf.float64], wanted, start) <= 1e-6
    assert 1e-4 < harness.distance_error(values[tf.bfloat16], wanted, start) < 0.1


@pytest.mark.one_keras
def test_a_query_kernel_resumes():
    arguments = {"learning_rate": 0.02, "output": None, "normalize": "neurons"}
    arguments["jit_compile"] = False
    assert not testing.check_optimizer(tko.Muon, arguments, only=["resume"]).failures


# Which variables.


def matrices_of(optimizer, shapes):
    variables = [tf.Variable(tf.zeros(shape), name=path) for path, shape in shapes.items()]
    optimizer.build(variables)
    state = optimizer.state_dict()["variables"]
    assert list(state) == list(shapes)
    return {path for path, slots in state.items() if "velocity" not in slots}


PATHS = {
    "position_embedding/position_embeddings": (8, 4),
    "tied/reverse_embeddings": (4, 8),
    "embedding_projection/kernel": (4, 6),
    "temporal/kernel": (3, 4, 5),
    "volume/kernel": (2, 2, 2, 3, 4),
    "depthwise_conv2d/kernel": (3, 3, 4, 2),
    "separable/depthwise_kernel": (3, 3, 4, 1),
    "separable/pointwise_kernel": (1, 1, 4, 8),
    "lstm/lstm_cell/kernel": (3, 16),
    "lstm/lstm_cell/recurrent_kernel": (4, 16),
    "gru/gru_cell/bias": (2, 12),
    "norm/gamma": (3, 3),
    "thin/kernel": (4, 1),
    "skipped/kernel": (4, 5),
    "attention/key/bias": (2, 3),
    "head/kernel": (5, 6),
    "head/bias": (6,),
}


def test_which_variables_are_matrices():
    chosen = matrices_of(tko.Muon(exclude_layers=["skipped"]), PATHS)
    assert chosen == {
        "embedding_projection/kernel",
        "temporal/kernel",
        "volume/kernel",
        "separable/pointwise_kernel",
        "lstm/lstm_cell/kernel",
        "lstm/lstm_cell/recurrent_kernel",
    }
    all_of_them = tko.Muon(output=None, exclude_embeddings=False)
    assert matrices_of(all_of_them, PATHS) == chosen | {
        "position_embedding/position_embeddings",
        "tied/reverse_embeddings",
        "skipped/kernel",
        "head/kernel",
    }
    keras_choice = tko.Muon(matrices="rank_2", output=None, exclude_layers=["skipped"])
    assert matrices_of(keras_choice, PATHS) == {
        "lstm/lstm_cell/kernel",
        "lstm/lstm_cell/recurrent_kernel",
        "gru/gru_cell/bias",
        "norm/gamma",
        "thin/kernel",
        "attention/key/bias",
        "head/kernel",
    }


@pytest.mark.one_keras
def test_axes_may_be_given():
    shapes = {"experts/kernel": (3, 4, 6), "up/kernel": (2, 2, 5, 4), "heads/kernel": (2, 8, 3)}
    arguments = {"batch_axes": {"experts|heads": 1}, "input_axes": {"^up": -1}}
    axes = [((1,), (2,), (0,)), ((3,), (0, 1, 2), ()), ((1,), (2,), (0,))]
    gradients = harness.gradient_sequence(3, list(shapes.values()))
    starts = harness.starts(list(shapes.values()))
    variables = [tf.Variable(s, dtype=tf.float32, name=n) for n, s in zip(shapes, starts)]
    optimizer = tko.Muon(0.02, output=None, scale="spectral", jit_compile=False, **arguments)
    values = harness.run(optimizer, gradients, starts, "function", variables)
    oracle = oracles.over_a_list("muon")
    wanted = [
        oracle(start, [b[i] for b in gradients], 0.02, axes=axes[i], spectral=True)
        for i, start in enumerate(starts)
    ]
    assert harness.distance_error(values, wanted, starts) <= BOUND
    # A transposed convolution is known by the name that Keras gives it.
    by_name = [tf.Variable(starts[1], dtype=tf.float32, name="conv2d_transpose_1/kernel")]
    optimizer = tko.Muon(0.02, output=None, scale="spectral", jit_compile=False)
    found = harness.run(
        optimizer, [b[1:2] for b in gradients], starts[1:2], "function", by_name
    )
    np.testing.assert_allclose(found[0], values[1], atol=1e-6)


def test_arguments_are_checked():
    for arguments, message in (
        (
            {"polynomial": "quintic"},
            "`polynomial` must be 'jordan', 'polar', a list of triples",
        ),
        ({"polynomial": [(1.0, 2.0)]}, "`polynomial` must be"),
        ({"polynomial": [(1.0, 2.0, "c")]}, "`polynomial` must be a finite number"),
        ({"input_axes": {"kernel": 0}}, "integers other than 0.*0 for 'kernel'"),
        ({"batch_axes": {"kernel": -1}}, "integers of at least 1.*-1 for 'kernel'"),
        ({"batch_axes": {"(": 1}}, "is no regular expression"),
        ({"input_axes": ["kernel"]}, "must be a dict.*it is no dict"),
        ({"matrices": "some"}, "`matrices` must be one of 'all', 'rank_2'"),
        ({"output": "first"}, "`output` must be one of 'last' or None"),
        ({"momentum": 1.0}, "`momentum` must be"),
    ):
        with pytest.raises(ValueError, match=f"Muon: argument .*{message}"):
            tko.Muon(**arguments)
    variables = [tf.Variable(tf.zeros([4, 5]), name="hidden/kernel")]
    for arguments, message in (
        (
            {"exclude_layers": ["hiden/kernel"]},
            r"`exclude_layers`.*nearest path is 'hidden/kernel'",
        ),
        ({"input_axes": {"query": 1}}, r"`input_axes` has the pattern 'query'.*nearest path"),
        (
            {"batch_axes": {"k": 1}, "output": None},
            r"'hidden/kernel' of shape \(4, 5\), `batch_axes` says 1",
        ),
        (
            {"input_axes": {"k": 2}, "output": None},
            r"'hidden/kernel' of shape \(4, 5\).*`input_axes` 2",
        ),
    ):
        optimizer = tko.Muon(**arguments)
        with pytest.raises(ValueError, match=message):
            optimizer.build(variables)
        assert not optimizer.built
    optimizer = tko.Muon(output=None)
    optimizer.exclude_layers = None
    optimizer.build(variables)
    for name, value in (("exclude_layers", ["hidden"]), ("output", "last")):
        before = getattr(optimizer, name)
        with pytest.raises(ValueError, match=f"Muon: argument `{name}` decides what is kept"):
            setattr(optimizer, name, value)
        assert getattr(optimizer, name) == before
        setattr(optimizer, name, before)


@pytest.mark.one_keras
def test_a_sparse_gradient_of_a_matrix_is_refused_with_the_remedy():
    table, head = (tf.Variable(tf.ones([4, 3]), name=n) for n in ("users/table", "head/kernel"))
    slices = tf.IndexedSlices(tf.ones([2, 3]), tf.constant([1, 1]), tf.constant([4, 3]))
    optimizer = tko.Muon(0.1, jit_compile=False)
    with pytest.raises(ValueError, match=r"'users/table' is sparse.*`exclude_layers`"):
        optimizer.apply_gradients([(slices, table), (tf.ones([4, 3]), head)])
    assert int(optimizer.iterations) == 0 and (table.numpy() == 1.0).all()
    twin = tf.Variable(tf.ones([4, 3]), name="users/table")
    for gradient, variable in ((slices, table), (tf.convert_to_tensor(slices), twin)):
        optimizer = tko.Muon(0.1, exclude_layers=["users/"], jit_compile=False)
        optimizer.apply_gradients([(gradient, variable), (tf.ones([4, 3]), head)])
    np.testing.assert_allclose(table.numpy(), twin.numpy(), rtol=1e-6)
    assert table.numpy()[1, 0] < 0.95


# Keras' own.


@pytest.mark.skipif(
    not hasattr(tf.keras.optimizers, "Muon"), reason="the running Keras has no Muon"
)
def test_it_is_kerass_own_where_it_chooses_as_that(tmp_path):
    x, y = harness.classification_data()
    arguments = {"learning_rate": 0.02, "exclude_layers": ["head"], "adam_lr_ratio": 0.5}
    arguments |= {"weight_decay": 0.1, "adam_weight_decay": 0.05}
    theirs = tf.keras.optimizers.Muon(**arguments)
    ours = tko.Muon(**arguments, matrices="rank_2", output=None, jit_compile=False)
    trained = []
    for optimizer in (theirs, ours):
        model = harness.small_model()
        model.compile(optimizer, harness.classification_loss(), jit_compile=False)
        model.fit(x, y, epochs=4, batch_size=8, shuffle=False, verbose=0)
        trained.append(model)
    for value, other in zip(*(model.get_weights() for model in trained)):
        np.testing.assert_allclose(value, other, atol=1e-5)
    listed = [[tuple(v.shape) for v in o.variables] for o in (theirs, ours)]
    assert listed[0] == listed[1]
    for ours_one, other in zip(ours.variables, theirs.variables):
        np.testing.assert_allclose(ours_one.numpy(), other.numpy(), atol=1e-4)
    # Files are read either way, and the runs go on alike.
    path = str(tmp_path / "x.weights.h5")
    trained[0].save_weights(path)
    trained[1].load_weights(path)
    for model in trained:
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for value, other in zip(*(model.get_weights() for model in trained)):
        np.testing.assert_allclose(value, other, atol=1e-6)


@pytest.mark.one_keras
def test_options_work_together():
    arguments = {
        "learning_rate": tko.schedules.Warmup(0.02, steps=4),
        "momentum": tko.schedules.Warmup(0.95, steps=4, initial_learning_rate=0.85),
        "adam_beta_2": tko.schedules.Warmup(0.95, steps=4, initial_learning_rate=0.9),
        "gradient_accumulation_steps": 2,
        "use_ema": True,
        "global_clipnorm": 1.0,
        "slot_dtype": "int8",
    }
    keras = tf.keras
    sizes = {"hidden": 64, "second": 64, "head": 3}
    dense = [keras.layers.Dense(size, name=name) for name, size in sizes.items()]
    model = keras.Sequential([keras.layers.Input((8,)), *dense])
    optimizer = tko.LossScaleOptimizer(tko.Muon(**arguments, jit_compile=False))
    model.compile(optimizer, harness.classification_loss(), jit_compile=False)
    x, y = harness.classification_data()
    history = model.fit(x, y, epochs=6, batch_size=16, verbose=0)
    assert history.history["loss"][-1] < 0.9 * history.history["loss"][0]
    state = model.optimizer.state_dict()["variables"]
    second = next(slots for path, slots in state.items() if re.search("second.*kernel", path))
    assert second["momentum"].dtype == np.int8 and "velocity" not in second


@pytest.mark.one_keras
def test_a_sum_of_gradients_does_not_become_a_mean():
    """Where another choice of variables loads a state, what a slot means decides."""
    named = {"a/kernel": (3, 3), "b/kernel": (3, 3)}
    variables = [tf.Variable(tf.ones(s), name=n.replace("/", "_")) for n, s in named.items()]
    before = tko.Muon(0.01)
    before.apply_gradients([(tf.ones_like(v), v) for v in variables])
    saved = before.state_dict()
    after = tko.Muon(0.01, exclude_layers=["a_kernel"], output=None)
    after.build(variables)
    with pytest.raises(ValueError, match="sum of gradients"):
        after.load_state_dict(saved)
    report = after.load_state_dict(saved, strict=False)
    assert len(report.mismatched) == 2  # and the head's mean is no sum
    assert not any(np.any(s["momentum"]) for s in after.state_dict()["variables"].values())
    same = tko.Muon(0.01)
    same.build(variables)
    assert same.load_state_dict(saved).fits
    adam = tko.Adam(0.01)
    adam.build(variables)
    assert len(adam.load_state_dict(saved, strict=False).mismatched) == 2  # class and momentum
