"""Groups of variables with hyperparameters, or an algorithm, of their own."""

import copy
import functools
import os
import pickle
import warnings

import harness
import numpy as np
import oracles
import pytest
import tensorflow as tf
from support import state, steps

import tf_keras_optim as tko
from tf_keras_optim.engine.state.paths import path_of

keras = tf.keras
SHAPES = {"enc/kernel": (3, 4), "enc/bias": (4,), "head/kernel": (4, 2), "head/bias": (2,)}
GROUPS = {"bias": {"weight_decay": 0.0}, "head": {"learning_rate": 0.2, "beta_1": 0.8}}
# What each variable is updated with: rate, weight decay, beta_1.
SETTINGS = [(0.05, 0.1, 0.9), (0.05, 0.0, 0.9), (0.2, 0.1, 0.8), (0.2, 0.0, 0.8)]


def starts(seed=0):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape) for shape in SHAPES.values()]


def made(seed=0):
    named = zip(SHAPES, starts(seed))
    return [tf.Variable(v, name=n.replace("/", "_"), dtype=tf.float32) for n, v in named]


def gradients(count, seed=1):
    """Numbers of few digits, of which sums are exact."""
    generator = np.random.default_rng(seed)
    shapes = SHAPES.values()
    return [
        [np.round(generator.normal(size=s) * 16) / 16 for s in shapes] for _ in range(count)
    ]


def train(optimizer, variables, given, regime="eager"):
    if not optimizer.built:
        optimizer.build(variables)

    def apply(gradients):
        optimizer.apply_gradients(zip(gradients, variables))

    step = steps.in_regime(apply, regime)
    for one in given:
        step([tf.constant(g, tf.float32) for g in one])


def grouped(**options):
    return tko.AdamW(0.05, weight_decay=0.1, groups=GROUPS, **options)


def expected(given, clip=None):
    """The weights by the float64 oracle, all gradients clipped together."""
    weights, slots, history = starts(), [{} for _ in SHAPES], [[] for _ in SHAPES]
    adam, defaults = oracles.ALGORITHMS["adam"]
    for one in given:
        norm = np.sqrt(sum(np.square(g).sum() for g in one))
        factor = min(1.0, clip / norm) if clip else 1.0
        for i, (rate, decay, beta) in enumerate(SETTINGS):
            own = {"learning_rate": rate, "weight_decay": decay, "beta_1": beta}
            history[i].append(defaults | own)
            weights[i] = adam(weights[i], one[i] * factor, slots[i], history[i])
    return weights


def assert_near(variables, weights):
    for variable, weight, start in zip(variables, weights, starts()):
        moved = np.abs(weight - start).max()
        assert np.abs(variable.numpy() - weight).max() <= 2e-5 * moved, variable.name


@pytest.mark.one_keras
@pytest.mark.parametrize("regime", ["eager", "function", "xla"])
@pytest.mark.parametrize("jit_compile", ["auto", True])
def test_groups_step_as_optimizers_of_their_own(regime, jit_compile):
    given, variables, apart = gradients(4), made(), made()
    train(grouped(jit_compile=jit_compile), variables, given, regime)
    for i, (rate, decay, beta) in enumerate(SETTINGS):
        own = tko.AdamW(rate, weight_decay=decay, beta_1=beta, jit_compile=jit_compile)
        train(own, apart[i : i + 1], [one[i : i + 1] for one in given], regime)
    for one, other in zip(variables, apart):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_one_norm_clips_all_groups():
    given, variables = gradients(6), made()
    train(grouped(global_clipnorm=0.7), variables, given)
    assert_near(variables, expected(given, clip=0.7))


def test_groups_accumulate_together_under_a_loss_scale():
    given, variables = gradients(8), made()
    inner = grouped(gradient_accumulation_steps=2)
    optimizer = tko.LossScaleOptimizer(inner, initial_scale=8.0)
    optimizer.build(variables)
    bad = [np.full(s, np.inf) for s in SHAPES.values()]
    for one in [bad, *given]:
        scale = 8.0 if one is bad else 4.0
        scaled = [tf.constant(g * scale, tf.float32) for g in one]
        if not harness.IS_KERAS_3:  # there gradients are unscaled first
            scaled = optimizer.get_unscaled_gradients(scaled)
        optimizer.apply_gradients(zip(scaled, variables))
    means = [[(a + b) / 2 for a, b in zip(*given[i : i + 2])] for i in range(0, 8, 2)]
    assert_near(variables, expected(means))


def test_replicas_of_groups_step_alike(strategy):
    given = gradients(3)
    with strategy.scope():
        variables = made()
        optimizer = grouped(global_clipnorm=0.7)
        optimizer.build(variables)

    @tf.function
    def step(one):
        def replica():
            shares = [g / 2.0 for g in one]
            optimizer.apply_gradients(zip(shares, variables))

        strategy.run(replica)

    for one in given:
        step([tf.constant(g, tf.float32) for g in one])
    assert_near(variables, expected(given, clip=0.7))


def test_the_learning_rate_scales_all_groups():
    variables, given = made(), gradients(5)
    optimizer = grouped()
    train(optimizer, variables, given[:2])
    optimizer.learning_rate = 0.025
    rates = [report.rate for report in optimizer.explain(lambda text: None)]
    np.testing.assert_allclose(rates, [0.025, 0.025, 0.1, 0.1], rtol=1e-6)
    again = tko.AdamW.from_config(optimizer.get_config())
    others = [tf.Variable(v, name=v.name.split(":")[0]) for v in variables]
    again.build(others)
    again.load_state_dict(optimizer.state_dict())
    train(optimizer, variables, given[2:], "function")
    train(again, others, given[2:])
    for one, two in zip(variables, others):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_a_group_may_follow_a_schedule():
    schedule = tko.schedules.PiecewiseConstantDecay([2], [0.1, 0.01])
    optimizer = tko.SGD(0.5, groups={"head": {"learning_rate": schedule}})
    variables = made()
    ones = [np.ones(s) for s in SHAPES.values()]
    train(optimizer, variables, [ones] * 4)
    optimizer.learning_rate = 0.25
    train(optimizer, variables, [ones])
    moved = [np.unique(np.round(s - v.numpy(), 4)) for s, v in zip(starts(), variables)]
    np.testing.assert_allclose(moved[0], [4 * 0.5 + 0.25], rtol=1e-4)
    # Where the schedule changes, as everywhere: up to update 2 the first value.
    steps_at = [float(schedule(t)) for t in range(4)] + [0.5 * float(schedule(4))]
    np.testing.assert_allclose(moved[2], [sum(steps_at)], rtol=1e-3)
    config = optimizer.get_config()
    again = type(optimizer).from_config(config)
    assert float(again.groups["head"]["learning_rate"](3)) == float(schedule(3))
    again.build(variables)
    rates = [report.rate for report in again.explain(lambda text: None)]
    np.testing.assert_allclose(rates, [0.25, 0.25, 0.05, 0.05], rtol=1e-6)


def test_another_algorithm_and_none():
    variables, given = made(), gradients(3)
    groups = {"enc": None, "head": tko.SGD(0.1, momentum=0.9), "head_bias": tko.Nadam(0.01)}
    optimizer = tko.Adam(1e-3, groups=groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said of gradients that are not used
        train(optimizer, variables, given)
        train(optimizer, variables, given, "function")
    apart = made()
    for own, i in ((tko.SGD(0.1, momentum=0.9), 2), (tko.Nadam(0.01), 3)):
        train(own, apart[i : i + 1], [one[i : i + 1] for one in [*given, *given]])
    for one, two in zip(variables, apart):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    kept = {path: sorted(slots) for path, slots in optimizer.state_dict()["variables"].items()}
    assert kept == {"head_kernel": ["momentum"], "head_bias": ["momentum", "velocity"]}
    rules = [report.rule for report in optimizer.explain(lambda text: None)]
    assert rules == ["SGD [head]", "Nadam [head + head_bias]"]


def test_frozen_variables_do_not_count_in_the_norm_and_may_be_thawed_by_a_later_pattern():
    variables = made()
    optimizer = tko.SGD(1.0, groups={"": None, "head_bias": {}}, global_clipnorm=1.0)
    train(optimizer, variables, [[np.full(s, 3.0) for s in SHAPES.values()]])
    for start, variable in zip(starts()[:3], variables):
        np.testing.assert_array_equal(variable.numpy(), start.astype("f"))
    moved = starts()[3] - variables[3].numpy()
    np.testing.assert_allclose(np.linalg.norm(moved), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": {"head": {"betas": 1}}}, "no hyperparameter 'betas'.*beta_2"),
        ({"groups": {"head": {"clipnorm": 1.0}}}, "`clipnorm` belongs to the whole step"),
        ({"groups": {"head": {"beta_1": 2.0}}}, r"\['head'\].*`beta_1`.*below 1.0.*2.0"),
        ({"groups": {"[": {}}}, "no regular expression"),
        ({"groups": {"head": 3}}, "that of 'head' is 3"),
        ({"groups": ["head"]}, "it is no dict"),
        ({"groups": {"hed_kernel": {}}}, "'hed_kernel'.*nearest path is 'head_kernel'"),
        ({"groups": {"head": tko.SGD(0.1, clipnorm=1.0)}}, "`clipnorm`=1.0.*whole step"),
        ({"groups": {"head": keras.optimizers.SGD(0.1)}}, "tf_keras_optim.convert"),
        ({"groups": {"head": tko.LossScaleOptimizer(tko.SGD(0.1))}}, "optimizer inside"),
        (
            {"learning_rate": 0.0, "groups": {"head": {"learning_rate": 0.1}}},
            "begins at 0.*learning_rate_multiplier",
        ),
        (
            {"groups": {"head": {"learning_rate": lambda: 0.1}}},
            "must be a number or a schedule",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tko.AdamW(**arguments).build(made())


def test_a_part_goes_by_the_whole():
    head = tko.SGD(0.1, momentum=0.9)
    optimizer, variables = tko.Adam(0.01, groups={"head": head}), made()
    ones = [[np.ones(s) for s in SHAPES.values()]]
    train(optimizer, variables, ones)
    with pytest.raises(ValueError, match="group of variables of Adam"):
        head.learning_rate = 0.2
    with pytest.raises(ValueError, match="`clipnorm`=1"):
        head.clipnorm = 1.0
    assert head.clipnorm is None
    head.momentum = 0.5
    before = variables[2].numpy()
    train(optimizer, variables, ones)
    np.testing.assert_allclose(before - variables[2].numpy(), 0.1 * 1.5, rtol=1e-5)
    with pytest.raises(TypeError, match="Assign all of them"):
        optimizer.groups["enc"] = {}
    with pytest.raises(ValueError, match="another algorithm"):
        optimizer.groups = {"head": {"beta_1": 0.5}}
    assert list(optimizer.groups) == ["head"]
    optimizer.groups = {"head": tko.SGD(1.0, momentum=0.0)}
    before = variables[2].numpy()
    train(optimizer, variables, ones)
    np.testing.assert_allclose(before - variables[2].numpy(), 1.0, rtol=1e-5)


def test_a_variable_in_another_group_keeps_what_means_the_same():
    variables, given = made(), gradients(2)
    before = tko.AdamW(1e-3, groups={"head": tko.SGD(0.1, momentum=0.9)})
    train(before, variables, given)
    saved = before.state_dict()
    for groups, kept in (
        ({"head_kernel": tko.SGD(0.1, momentum=0.9)}, {"head_bias": []}),
        ({"bias": {"beta_1": 0.5}}, {"head_kernel": [], "head_bias": []}),
        ({"head": tko.Nadam(0.1)}, {"head_kernel": [], "head_bias": []}),
    ):
        after = tko.AdamW(1e-3, groups=groups)
        after.build(variables)
        report = after.load_state_dict(saved, strict=False)
        assert not report.fits
        now = after.state_dict()["variables"]
        for path, slots in now.items():
            for slot, value in slots.items():
                if slot.startswith("begun"):
                    continue  # where slots that are new begin to count
                is_kept = slot in kept.get(path, slots)
                other = saved["variables"][path].get(slot)
                assert np.array_equal(value, other) == is_kept, (groups, path, slot)
        with pytest.raises(ValueError, match="last step"):
            after.load_state_dict(saved)


def model_of(seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(4, name="body"), keras.layers.Dense(2, name="head")]
    return keras.Sequential([keras.layers.Input((3,)), *layers], name="parted")


def compiled(**options):
    model = model_of()
    groups = {
        "bias": {"weight_decay": 0.0},
        "body": {"learning_rate_multiplier": 0.5, "beta_2": 0.9},
        "head": tko.Nadam(2e-2),
    }
    model.compile(tko.AdamW(1e-2, weight_decay=0.1, groups=groups, **options), "mse")
    return model


DATA = np.random.default_rng(0).normal(size=(8, 3)).astype("f")
LABELS = DATA[:, :2]


def fit(model, epochs=2, **options):
    model.fit(DATA, LABELS, batch_size=4, shuffle=False, epochs=epochs, verbose=0, **options)
    return model


OPTIONS = {"use_ema": True, "ema_momentum": 0.5, "global_clipnorm": 1.0}


def _checkpoint(model):
    return tf.train.Checkpoint(model=model, optimizer=model.optimizer)


def _into_another(load):
    model = compiled(**OPTIONS)
    load(model)
    return model


def _save_state(model, path):
    model.save_weights(path + ".weights.h5")
    tko.save_state(path + ".npz", model.optimizer, model.variables)


# How to save a model under a path, and how to load it from there, or from what saving gave.
FORMATS = {
    "keras": (
        lambda model, path: model.save(path + ".keras"),
        lambda path, _: keras.models.load_model(path + ".keras"),
    ),
    "weights": (
        lambda model, path: model.save_weights(path + ".weights.h5"),
        lambda path, _: _into_another(lambda m: m.load_weights(path + ".weights.h5")),
    ),
    "checkpoint": (
        lambda model, path: _checkpoint(model).write(path),
        lambda path, _: _into_another(lambda m: _checkpoint(m).read(path)),
    ),
    "state": (
        _save_state,
        lambda path, _: _into_another(
            lambda m: (
                m.load_weights(path + ".weights.h5"),
                tko.load_state(path + ".npz", m.optimizer, m.variables),
            )
        ),
    ),
    "pickle": (lambda model, path: pickle.dumps(model), lambda path, kept: pickle.loads(kept)),
    "deepcopy": (lambda model, path: copy.deepcopy(model), lambda path, kept: kept),
}


@pytest.mark.one_keras
@pytest.mark.parametrize("kind", FORMATS)
def test_training_goes_on_after_loading(kind, tmp_path):
    save, load = FORMATS[kind]
    model, path = fit(compiled(**OPTIONS)), os.path.join(tmp_path, "saved")
    loaded = load(path, save(model, path))
    fit(model)
    fit(loaded)
    for one, two in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(
        state.by_name(model.optimizer).values(), state.by_name(loaded.optimizer).values()
    ):
        np.testing.assert_array_equal(one, two)


def test_callbacks_change_the_rates_of_all_groups():
    model = compiled()
    halve = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    fit(model, 3, callbacks=[halve])
    rates = [report.rate for report in model.optimizer.explain(lambda text: None)]
    np.testing.assert_allclose(rates, np.array([5e-3, 5e-3, 2e-2, 2e-2]) / 4, rtol=1e-5)
    fit(model, 1, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 1e-2)])
    rates = [report.rate for report in model.optimizer.explain(lambda text: None)]
    np.testing.assert_allclose(rates, [5e-3, 5e-3, 2e-2, 2e-2], rtol=1e-5)


def test_an_exported_model_trains_on(tmp_path):
    model, path = fit(compiled()), os.path.join(tmp_path, "exported")
    tko.export_training(model, path)
    loaded = tko.load_training(path)
    for start in (0, 4):
        loaded.train_on_batch(DATA[start : start + 4], LABELS[start : start + 4])
    fit(model, 1)
    np.testing.assert_allclose(loaded.predict(DATA), model(DATA).numpy(), rtol=1e-6, atol=1e-7)


def test_lazy_rows_and_eight_bit_slots_in_groups():
    table = tf.Variable(np.ones((4, 2), "f"), name="table")
    kernel = tf.Variable(np.ones((64, 64), "f"), name="kernel")
    optimizer = tko.Adam(
        0.1,
        sparse={"table": "lazy"},
        slot_dtype={"kernel": "int8"},
        groups={"table": {"learning_rate_multiplier": 0.5, "beta_1": 0.0}, "kernel": {}},
    )
    rows = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([1]), (4, 2))
    optimizer.apply_gradients([(rows, table), (tf.ones((64, 64)), kernel)])
    np.testing.assert_allclose(table.numpy()[:, 0], [1.0, 0.95, 1.0, 1.0], rtol=1e-5)
    np.testing.assert_allclose(kernel.numpy(), 0.9, rtol=1e-5)
    assert optimizer.state_dict()["variables"]["kernel"]["momentum"].dtype == np.int8


def test_late_variables_count_in_their_group():
    variables, one, apart = made(), gradients(1)[0], made()
    optimizer = tko.Adam(0.1, groups={"head": tko.Nadam(0.1), "enc": {"beta_1": 0.5}})
    train(optimizer, variables[::2], [one[::2]] * 3)
    train(optimizer, variables, [one])
    train(tko.Adam(0.1, beta_1=0.5), apart[1:2], [one[1:2]])
    train(tko.Nadam(0.1), apart[3:], [one[3:]])
    for late, fresh in zip(variables[1::2], apart[1::2]):
        np.testing.assert_allclose(late.numpy(), fresh.numpy(), rtol=1e-6)


def test_a_dry_run_says_what_would_be():
    optimizer, told = grouped(), []
    reports = optimizer.explain(told.append, dry_run=True, variables=made())
    assert [report.rate for report in reports] == pytest.approx([0.05, 0.05, 0.2, 0.2])
    assert [report.decays for report in reports] == [True, False, True, False]
    assert not optimizer.built
    assert "AdamW [bias + head]" in told[0]
    with pytest.raises(ValueError, match="`dry_run`=True and `variables`"):
        optimizer.explain(dry_run=True)


def test_an_update_step_has_no_groups():
    class Own(tko.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, gradient)

    with pytest.raises(ValueError, match="`groups` needs an algorithm written as `update`"):
        Own(0.1, groups={"": {}})


# Groups of a model.


def transformer(blocks=12):
    inputs = keras.layers.Input((3,))
    x = keras.layers.Dense(3, name="embedding")(inputs)
    for i in range(blocks):
        inner = keras.layers.Input((3,))
        y = keras.layers.Dense(5, name="up")(inner)
        y = keras.layers.Dense(3, name="down")(y)
        x = keras.Model(inner, y, name=f"block_{i}")(x)
    backbone = keras.Model(inputs, x, name="backbone")
    outputs = keras.layers.Dense(2, name="classifier")(backbone(inputs))
    return keras.Model(inputs, outputs, name="whole")


def test_layerwise_rates_fall_by_depth():
    """As timm gives them: decay to the power of the number of blocks above."""
    model = transformer()
    groups = tko.layerwise_learning_rates(model, decay=0.75)
    optimizer = tko.AdamW(1e-3, groups={**groups, **tko.no_decay_on_vectors(model)})
    optimizer.build(model.trainable_variables)
    reports = optimizer.explain(lambda text: None)
    depths = [13] * 2 + [12 - i for i in range(12) for _ in range(4)] + [0] * 2
    np.testing.assert_allclose([r.rate for r in reports], 1e-3 * 0.75 ** np.array(depths), 1e-6)
    assert [r.decays for r in reports] == [True, False] * (len(reports) // 2)


def test_blocks_may_be_named():
    model = model_of()
    groups = tko.layerwise_learning_rates(model, 0.5, blocks=["bias", "body", "head"])
    optimizer = tko.SGD(1.0, groups=groups)
    optimizer.build(model.trainable_variables)
    rates = [report.rate for report in optimizer.explain(lambda text: None)]
    assert rates == [0.5, 0.25, 1.0, 0.25]
    with pytest.raises(ValueError, match="head/kernel' is in none of the blocks"):
        tko.layerwise_learning_rates(model, blocks=["bias", "body"])
    with pytest.raises(ValueError, match="patterns for no variable"):
        tko.layerwise_learning_rates(model, blocks=["", "body"])
    with pytest.raises(ValueError, match="no trainable variables"):
        tko.layerwise_learning_rates(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match=r"`decay`.*at most 1"):
        tko.layerwise_learning_rates(model, 1.5)


def test_keras_form_of_groups():
    mapped = tko.OptimizerMap(tko.Adam(0.01), {"(.*/)?body/.*": tko.SGD(0.1)})
    model = model_of()
    bias = path_of(model.trainable_variables[1])
    mapped[bias] = tko.Nadam(0.2)
    optimizer = tko.MultiOptimizer(mapped, loss_scale_factor=2.0, name="parts")
    optimizer.build(model.trainable_variables)
    rules = [report.rule.split()[0] for report in optimizer.explain(lambda text: None)]
    assert rules == ["SGD", "Nadam", "Adam", "Adam"]
    assert [type(mapped(v)).__name__ for v in model.trainable_variables] == rules
    assert (optimizer.name, optimizer.loss_scale_factor) == ("parts", 2.0)
    with pytest.raises(TypeError, match="patterns of paths"):
        tko.MultiOptimizer(lambda variable: tko.SGD())
    with pytest.raises(ValueError, match="has an optimizer already"):
        mapped[bias] = tko.SGD()
    with pytest.raises(ValueError, match="slots already"):
        tko.MultiOptimizer(mapped)


HAS_PARTS = hasattr(keras.optimizers, "MultiOptimizer")


@pytest.mark.skipif(not HAS_PARTS, reason="this Keras has no MultiOptimizer")
def test_parts_of_keras_become_groups_and_groups_parts():
    def step(optimizer, variables):
        for one in gradients(2, seed=3):
            optimizer.apply([tf.constant(g, tf.float32) for g in one], variables)

    def variables_of_keras():
        named = zip(SHAPES, starts())
        return [keras.Variable(v, name=n.replace("/", "_"), dtype="float32") for n, v in named]

    variables = variables_of_keras()
    mapped = keras.optimizers.OptimizerMap(
        keras.optimizers.Adam(0.01), {"head_.*": keras.optimizers.SGD(0.1, momentum=0.9)}
    )
    mapped["enc_bias"] = keras.optimizers.Nadam(0.02)
    theirs = keras.optimizers.MultiOptimizer(mapped, name="several")
    step(theirs, variables)
    values = [v.numpy() for v in variables]
    ours = tko.convert(theirs)
    step(theirs, variables)
    expects = [v.numpy() for v in variables]
    for variable, value in zip(variables, values):
        variable.assign(value)
    step(ours, variables)
    for variable, value in zip(variables, expects):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-5, atol=1e-6)
    back = tko.to_keras(ours)
    values = [v.numpy() for v in variables]
    step(ours, variables)
    expects = [v.numpy() for v in variables]
    for variable, value in zip(variables, values):
        variable.assign(value)
    step(back, variables)
    for variable, value in zip(variables, expects):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-5, atol=1e-6)
    with pytest.raises(ValueError, match="a function assigns its variables"):
        tko.convert(keras.optimizers.MultiOptimizer(lambda v: keras.optimizers.SGD()))


def test_groups_are_not_lost_on_the_way_to_keras():
    optimizer = tko.Adam(0.1, groups={"": None})
    with pytest.raises(ValueError, match="`groups`"):
        tko.to_keras(optimizer)


def test_settings_that_one_variable_cannot_have_change_nothing():
    optimizer, variables = tko.Adam(0.1, groups={"head": tko.SGD(0.1)}), made()
    optimizer.build(variables)
    with pytest.raises(ValueError, match="Adam has no hyperparameter 'momentum'"):
        optimizer.groups = {"head": tko.SGD(0.1), "enc": {"momentum": 0.5}}
    assert list(optimizer.groups) == ["head"]
    rules = [report.rule for report in optimizer.explain(lambda text: None)]
    assert rules == ["Adam", "Adam", "SGD [head]", "SGD [head]"]


SCHEDULE_FREE = tko.ScheduleFreeSGD


@pytest.mark.one_keras
@pytest.mark.parametrize(
    "option, groups, reason",
    [
        ({"use_ema": True}, {"head": SCHEDULE_FREE}, "averages the weights itself"),
        ({"lookahead_steps": 5}, {"head": SCHEDULE_FREE}, "averages the weights itself"),
        ({"cautious": True}, {"head": SCHEDULE_FREE}, "averages the weights itself"),
        ({"cautious_weight_decay": True}, {"head": tko.LARS}, "within its update"),
        ({"sparse": "lazy"}, {"head": tko.Lamb}, "depend on other rows"),
        ({"sparse": {"head_k": "lazy"}}, {"head": tko.Lamb}, "depend on other rows"),
    ],
)
def test_an_option_of_the_step_that_a_group_cannot_have_is_refused(option, groups, reason):
    groups = {pattern: make() for pattern, make in groups.items()}
    with pytest.raises(ValueError, match=rf"(?s)AdamW: .*'head'.*{reason}"):
        tko.AdamW(groups=groups, **option).build(made())
    ((name, value),) = option.items()
    optimizer, variables = tko.AdamW(groups=groups), made()
    optimizer.build(variables)
    before = getattr(optimizer, name)
    with pytest.raises(ValueError, match=rf"(?s)AdamW: .*'head'.*{reason}"):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before
    train(optimizer, variables, gradients(1))


@pytest.mark.one_keras
@pytest.mark.parametrize(
    "make, settings",
    [
        (tko.AdamW, {"decoupled_weight_decay": False}),
        (functools.partial(tko.Adan, proximal_decay=False), {"proximal_decay": True}),
        (tko.Lamb, {"decay_in_trust_ratio": True}),
    ],
)
def test_a_setting_that_an_option_of_the_step_excludes_is_refused(make, settings):
    with pytest.raises(ValueError, match=r"group 'head': .*`cautious_weight_decay`=True"):
        make(cautious_weight_decay=True, groups={"head": settings}).build(made())
    optimizer = make(cautious_weight_decay=True, groups={"head": {"epsilon": 1e-5}})
    variables = made()
    optimizer.build(variables)
    with pytest.raises(ValueError, match=r"group 'head': .*`cautious_weight_decay`=True"):
        optimizer.groups = {"head": {"epsilon": 1e-5, **settings}}
    assert optimizer.groups == {"head": {"epsilon": 1e-5}}
    train(optimizer, variables, gradients(1))


def test_lazy_rows_of_other_variables_are_no_matter_of_a_group():
    groups = {"head": tko.Lamb()}
    optimizer = tko.AdamW(sparse={"enc_kernel": "lazy"}, groups=groups)
    optimizer.build(made())
    rules = {report.path: report.rule for report in optimizer.explain(lambda text: None)}
    assert rules["head_kernel"].startswith("Lamb") and rules["enc_kernel"] == "AdamW"
