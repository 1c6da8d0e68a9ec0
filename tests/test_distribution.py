"""Replicas give what one replica with the whole batch gives."""

import contextlib
import functools

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.steps import in_regime, traced_or_not

ALL = {
    "weight_decay": 0.1,
    "global_clipnorm": 0.5,
    "use_ema": True,
    "ema_momentum": 0.9,
    "ema_overwrite_frequency": 3,
    "gradient_accumulation_steps": 2,
    "loss_scale_factor": 4.0,
}
CASES = {
    "sgd": (tko.SGD, {}),
    "nesterov": (tko.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (tko.Adam, {}),
    "adamw": (tko.AdamW, {"amsgrad": True}),
    "rmsprop": (tko.RMSprop, {"momentum": 0.5, "centered": True}),
    "nadam": (tko.Nadam, {}),
    "adafactor": (tko.Adafactor, {}),
    "lamb": (tko.Lamb, {}),
    "ftrl": (tko.Ftrl, {}),
}


STEPS, SHAPES, TABLE = 12, [(), (2, 3, 4)], (6, 3)
# Each algorithm has its replicas in the conformance kit. Here with all options, one of each
# kind of state: none, slots, a number for all variables, slots that follow the shape, norms, a
# slot that does not start from zero. With loss scaling and XLA, and plain.
WAYS = [(case, True, True) for case in ("adamw", "lamb")]
WAYS += [(case, False, False) for case in ("nesterov", "nadam", "adafactor", "ftrl")]
FOUR = [("adafactor", True), ("nadam", False)]
REPLICAS, START_SCALE = 4, 1024.0


def total_gradients():
    """By step: dense gradients with their shares, and slices of a table, with four replicas.

    The shares are uneven; ids repeat within and between replicas.
    """
    generator = np.random.default_rng(5)
    ids = generator.integers(0, TABLE[0], (STEPS, REPLICAS, 4))
    drift = generator.normal(size=TABLE)
    rows = (drift[ids] + generator.normal(size=(*ids.shape, TABLE[1]))).astype("f")
    parts = np.arange(1, REPLICAS + 1) / np.sum(np.arange(1, REPLICAS + 1))
    dense = [
        [np.stack([p * g for p in parts]).astype("f") for g in batch]
        for batch in harness.gradient_sequence(STEPS, SHAPES)
    ]
    return dense, ids, rows


def shares(replicas):
    """The same gradients for some number of replicas: neighbours are put together."""
    dense, ids, rows = total_gradients()
    together = REPLICAS // replicas
    dense = [
        [g.reshape(replicas, together, *g.shape[1:]).sum(axis=1) for g in batch]
        for batch in dense
    ]
    return dense, *(a.reshape(STEPS, replicas, -1, *a.shape[3:]) for a in (ids, rows))


def train(cls, arguments, replicas, scaled, strategy=None):
    """Twelve calls with the optimizer; returns it and its variables."""
    starts = [*harness.starts(SHAPES), np.ones(TABLE)]
    with strategy.scope() if strategy else contextlib.nullcontext():
        variables = [tf.Variable(v, dtype=tf.float32, name="w") for v in starts]
        optimizer = cls(**arguments)
        if scaled:
            optimizer = tko.LossScaleOptimizer(optimizer, initial_scale=START_SCALE)
        optimizer.build(variables)

    def apply(dense, indices, values):
        factor = START_SCALE if scaled else 1.0
        values = tf.IndexedSlices(factor * values, indices, tf.constant(TABLE))
        given = [*(factor * g for g in dense), values]
        if scaled and not harness.IS_KERAS_3:
            given = optimizer.get_unscaled_gradients(given)
        optimizer.apply_gradients(zip(given, variables))

    @tf.function(autograph=False)
    def step(dense, indices, values):
        def replica():
            own = 0
            if strategy:
                own = tf.distribute.get_replica_context().replica_id_in_sync_group
            apply([g[own] for g in dense], indices[own], values[own])

        strategy.run(replica) if strategy else replica()

    for dense, indices, values in zip(*shares(replicas)):
        step([tf.constant(g) for g in dense], tf.constant(indices), tf.constant(values))
    return optimizer, variables


def arguments_of(case, scaled, jit):
    cls, arguments = CASES[case]
    arguments = {"learning_rate": 0.01, "jit_compile": jit} | ALL | arguments
    return cls, arguments | ({"loss_scale_factor": None} if scaled else {})


@functools.cache
def alone(case, scaled):
    """Final values of one replica with the whole batch, without XLA."""
    _, variables = train(*arguments_of(case, scaled, False), 1, scaled)
    return [variable.numpy() for variable in variables]


def check_replicas(case, replicas, scaled, jit, strategies):
    strategy = strategies[replicas]
    cls, arguments = arguments_of(case, scaled, jit)
    optimizer, values = train(cls, arguments, replicas, scaled, strategy)
    for value, other in zip(values, alone(case, scaled)):
        np.testing.assert_allclose(value.numpy(), other, rtol=0, atol=1e-6)
        local = [v.numpy() for v in strategy.experimental_local_results(value)]
        assert all(np.array_equal(local[0], v) for v in local)
    assert int(optimizer.iterations.numpy()) == STEPS // 2


@pytest.mark.one_keras
@pytest.mark.parametrize(("case", "scaled", "jit"), WAYS)
def test_replicas_equal_one(case, scaled, jit, strategies):
    """Twelve calls, dense and sparse, with every option, plain and under loss scaling."""
    check_replicas(case, 2, scaled, jit, strategies)


@pytest.mark.one_keras
@pytest.mark.parametrize(("case", "scaled"), FOUR)
def test_four_replicas_equal_one(case, scaled, strategies):
    check_replicas(case, 4, scaled, False, strategies)


@pytest.mark.one_keras
def test_gradients_are_clipped_after_they_are_summed(strategy):
    with strategy.scope():
        variable = tf.Variable([0.0])
        optimizer = tko.SGD(1.0, global_clipnorm=1.0)
    strategy.run(lambda: optimizer.apply_gradients([(tf.constant([5.0]), variable)]))
    assert variable.numpy() == [-1.0]  # each replica clipped alone would give -2


@pytest.mark.one_keras
@pytest.mark.parametrize("traced", [True, False])
def test_sparse_gradients_are_summed_over_rows_and_replicas(strategy, traced):
    with strategy.scope():
        table = tf.Variable(tf.zeros([4, 2]))
        optimizer = tko.SGD(1.0, momentum=0.5)

    def replica():
        rows = tf.ones([3, 2])
        gradient = tf.IndexedSlices(rows, tf.constant([1, 1, 2]), tf.constant([4, 2]))
        optimizer.apply_gradients([(gradient, table)])

    def step():
        strategy.run(replica)

    step = traced_or_not(step, traced)
    for _ in range(2):
        step()
    np.testing.assert_allclose(table.numpy()[:, 0], [0.0, -10.0, -5.0, 0.0])


@pytest.mark.parametrize("traced", [True, False])
def test_slots_made_inside_a_replica_are_mirrored(strategy, traced):
    with strategy.scope():
        variable = tf.Variable([1.0, 2.0])
        optimizer = tko.Adam(0.1)

    def step():
        strategy.run(lambda: optimizer.apply_gradients([(tf.ones([2]), variable)]))

    step = traced_or_not(step, traced)
    for _ in range(3):
        step()
    assert int(optimizer.iterations.numpy()) == 3
    for v in optimizer.variables:
        native = getattr(v, "value", v) if harness.IS_KERAS_3 else v
        first, second = strategy.experimental_local_results(native)
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    np.testing.assert_allclose(variable.numpy(), [0.7, 1.7], atol=1e-5)


def test_fit_under_a_strategy_equals_fit_without(strategy):
    with strategy.scope():
        mirrored, _ = harness.fit(tko.AdamW(0.01, **ALL))
    alone, _ = harness.fit(tko.AdamW(0.01, **ALL))
    for value, other in zip(mirrored.get_weights(), alone.get_weights()):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)


@pytest.mark.one_keras
def test_constraints_and_overwriting_hold_on_every_replica(strategy):
    with strategy.scope():
        bounded = tf.Variable([0.5], constraint=lambda w: tf.maximum(w, 0.0))
        scale = tf.Variable([1.0])
        scale.overwrite_with_gradient = True
        optimizer = tko.SGD(1.0)

    @tf.function(autograph=False)
    def step():
        gradients = [tf.constant([3.0]), tf.constant([7.0])]
        strategy.run(lambda: optimizer.apply_gradients(zip(gradients, [bounded, scale])))

    step()
    assert [v.numpy()[0] for v in strategy.experimental_local_results(bounded)] == [0.0, 0.0]
    assert [v.numpy()[0] for v in strategy.experimental_local_results(scale)] == [7.0, 7.0]


def test_mistakes_about_the_scope_are_explained(strategy):
    outside = tko.SGD(name="outside")
    with strategy.scope():
        inside = tko.SGD(name="inside")
        variable = tf.Variable([1.0])
    pairs = [(tf.constant([1.0]), variable)]
    with pytest.raises(ValueError, match="'outside' was created outside the scope"):
        strategy.run(lambda: outside.apply_gradients(pairs))
    stray = tf.Variable([1.0], name="stray")
    with pytest.raises(ValueError, match="'stray' was created outside the scope"):
        strategy.run(lambda: inside.apply_gradients([(tf.constant([1.0]), stray)]))
    assert variable.numpy() == [1.0]


@pytest.mark.one_keras
def test_ema_can_be_finalized_under_a_strategy(strategy):
    with strategy.scope():
        variable = tf.Variable([1.0])
        optimizer = tko.SGD(0.25, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        strategy.run(lambda: optimizer.apply_gradients([(tf.constant([1.0]), variable)]))
    with strategy.scope():
        optimizer.finalize_variable_values([variable])
    values = [v.numpy()[0] for v in strategy.experimental_local_results(variable)]
    assert values == [0.25, 0.25]  # (0.5 + 0.0) / 2


@pytest.mark.one_keras
@pytest.mark.parametrize("traced", [True, False])
def test_gradients_can_be_applied_from_outside_the_replicas(traced, strategy):
    with strategy.scope():
        variable = tf.Variable([1.0])
        optimizer = tko.SGD(0.25, global_clipnorm=100.0)
        optimizer.build([variable])

    def gradient():
        own = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.fill([1], tf.cast(own, tf.float32) + 1.0)

    def per_replica():
        optimizer.apply_gradients([(strategy.run(gradient), variable)])  # 1 and 2

    def total():
        optimizer.apply_gradients([(tf.constant([3.0]), variable)])

    with strategy.scope():
        for step, expected in ((per_replica, 0.25), (total, -0.5)):
            (traced_or_not(step, traced))()
            values = [v.numpy()[0] for v in strategy.experimental_local_results(variable)]
            assert values == [expected, expected]
        with pytest.raises(ValueError, match="some gradients have a value for each replica"):
            other = tf.Variable([1.0])
            optimizer.build([variable, other])
            optimizer.apply_gradients(
                [(strategy.run(gradient), variable), (tf.constant([1.0]), other)]
            )
    assert int(optimizer.iterations.numpy()) == 2


@pytest.mark.one_keras
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("regime", ["eager", "function"])
def test_a_reducer_runs_once_per_update_and_before_the_clip(regime, steps):
    calls = []

    def reducer(gradients):
        calls.append(len(gradients))
        return [3.0 * g for g in gradients]  # as if three workers had the same

    optimizer = tko.SGD(
        1.0, gradient_reducer=reducer, global_clipnorm=4.0, gradient_accumulation_steps=steps
    )
    a, b = tf.Variable([0.0]), tf.Variable([0.0])
    optimizer.build([a, b])

    def step():
        optimizer.apply_gradients([(tf.constant([1.0]), a), (tf.constant([0.0]), b)])

    step = in_regime(step, regime)
    for _ in range(2 * steps):
        step()
    assert a.numpy() == [-6.0]
    assert set(calls) == {2}
    if regime == "eager" and steps == 1:
        assert len(calls) == 2
    big = tko.SGD(1.0, gradient_reducer=reducer, global_clipnorm=1.5)
    big.apply_gradients([(tf.constant([1.0]), a), (tf.constant([0.0]), b)])
    np.testing.assert_allclose(a.numpy(), [-7.5])


def test_a_reducer_that_loses_gradients_is_refused():
    optimizer = tko.SGD(gradient_reducer=lambda gradients: gradients[:1])
    variables = [tf.Variable([0.0]), tf.Variable([0.0])]
    with pytest.raises(ValueError, match="got 2 gradients and returned 1"):
        optimizer.apply_gradients([(tf.constant([1.0]), v) for v in variables])
    with pytest.raises(ValueError, match="must be a function from a list"):
        tko.SGD(gradient_reducer="sum")
    with pytest.raises(ValueError, match="cannot be combined with"):
        tko.SGD(gradient_reducer=list, gradient_accumulation_steps=2, skip_nonfinite=True)


@pytest.mark.one_keras
@pytest.mark.parametrize("traced", [True, False])
def test_sums_of_ones_own_are_not_summed_again(traced, strategy):
    with strategy.scope():
        variable = tf.Variable([1.0])
        optimizer = tko.SGD(0.5, skip_nonfinite=True)
        optimizer.build([variable])

    def replica(value):
        context = tf.distribute.get_replica_context()
        own = tf.cast(context.replica_id_in_sync_group, tf.float32)
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, value + 0.5 * own)
        optimizer.apply_gradients([(total, variable)], skip_gradients_aggregation=True)

    def step(value):
        strategy.run(replica, args=(value,))

    step = traced_or_not(step, traced)
    step(tf.constant([0.25]))
    assert variable.numpy() == [0.5]

    def disagree():
        own = tf.distribute.get_replica_context().replica_id_in_sync_group
        value = tf.where(tf.equal(own, 1), tf.constant([np.inf], tf.float32), [1.0])
        optimizer.apply_gradients([(value, variable)], skip_gradients_aggregation=True)

    def bad():
        strategy.run(disagree)

    (traced_or_not(bad, traced))()
    values = [v.numpy()[0] for v in strategy.experimental_local_results(variable)]
    assert values == [0.5, 0.5]
    assert int(optimizer.skipped_steps.numpy()) == 1


@pytest.mark.one_keras
def test_gradients_may_travel_in_half_precision(strategy):
    """1 + 2**-9 is no bfloat16: on the way it becomes 1."""
    moved = {}
    for dtype in (None, "bfloat16"):
        with strategy.scope():
            variable = tf.Variable([0.0])
            optimizer = tko.SGD(1.0, aggregation_dtype=dtype)
            optimizer.build([variable])

        @tf.function(autograph=False)
        def step(optimizer=optimizer, variable=variable):
            strategy.run(
                lambda: optimizer.apply_gradients([(tf.constant([1.0 + 2**-9]), variable)])
            )

        step()
        moved[dtype] = -variable.numpy()[0]
    assert moved == {None: 2.0 + 2**-8, "bfloat16": 2.0}


@pytest.mark.one_keras
@pytest.mark.parametrize("kind", ["OneDeviceStrategy", "CentralStorageStrategy"])
def test_strategies_of_one_replica(kind):
    if kind == "OneDeviceStrategy":
        strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    else:
        strategy = tf.distribute.experimental.CentralStorageStrategy(["CPU:0"], "CPU:0")
    arguments = {"learning_rate": 0.01} | ALL
    gradients, starts = harness.gradient_sequence(6), harness.starts()
    with strategy.scope():
        variables = [tf.Variable(v, dtype=tf.float32, name="w") for v in starts]
        optimizer = tko.AdamW(**arguments)
        optimizer.build(variables)

    @tf.function(autograph=False)
    def step(batch):
        strategy.run(lambda: optimizer.apply_gradients(zip(batch, variables)))

    for batch in gradients:
        step([tf.constant(g, tf.float32) for g in batch])
    expected = harness.run(tko.AdamW(**arguments), gradients, starts, "function")
    for value, other in zip(variables, expected):
        np.testing.assert_allclose(value.numpy(), other, rtol=0, atol=1e-6)
