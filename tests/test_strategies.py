"""Every strategy of TensorFlow is right, and what mixes two of them is refused."""

import contextlib
import warnings

import harness
import numpy as np
import pytest
import tensorflow as tf
from conftest import DEVICES
from test_distribution import check_replicas

import tf_keras_optim as tko
from tests.support.steps import traced_or_not


@pytest.fixture(scope="module")
def central():
    return tf.distribute.experimental.CentralStorageStrategy(DEVICES[:2], DEVICES[0])


# Where the others are shown: MirroredStrategy in test_distribution.py, OneDeviceStrategy and
# one device of CentralStorageStrategy there too; MultiWorkerMirroredStrategy and
# ParameterServerStrategy, which need processes of their own, in test_workers.py.


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("case", "scaled", "jit"),
    [
        ("sgd", False, False),
        ("adam", True, "auto"),
        ("nadam", False, True),
        ("ftrl", True, False),
    ],
)
def test_central_storage_equals_one_replica(case, scaled, jit, central):
    check_replicas(case, 2, scaled, jit, {2: central})


@pytest.mark.one_keras
@pytest.mark.parametrize("make", [tko.SGD, tko.RMSprop])
def test_fit_in_central_storage_equals_fit_without(make, central):
    options = {"global_clipnorm": 0.5, "use_ema": True, "ema_momentum": 0.9}
    with central.scope():
        shared, _ = harness.fit(make(0.01, **options), epochs=1)
        loaded = make(0.01, **options)
    alone, _ = harness.fit(make(0.01, **options), epochs=1)
    for value, other in zip(shared.get_weights(), alone.get_weights()):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)
    assert int(shared.optimizer.iterations) == 8
    loaded.build(shared.trainable_variables)
    loaded.load_state_dict(shared.optimizer.state_dict())
    for value, other in zip(loaded.get_weights(), shared.optimizer.get_weights()):
        np.testing.assert_array_equal(value, other)


@pytest.mark.one_keras
@pytest.mark.parametrize("traced", [False, True])
def test_central_storage_in_eager_loops(traced, central):
    with central.scope():
        variable = tf.Variable([1.0, 2.0])
        optimizer = tko.Adam(0.1, gradient_accumulation_steps=2)

    def replica():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        gradient = tf.fill([2], tf.cast(number, tf.float32) + 1.0)
        optimizer.apply_gradients([(gradient, variable)])

    def step():
        central.run(replica)

    step = traced_or_not(step, traced)
    for _ in range(4):
        step()
    assert int(optimizer.iterations) == 2
    np.testing.assert_allclose(variable.numpy(), [0.8, 1.8], atol=1e-5)


def test_a_reducer_in_central_storage_is_refused(central):
    with central.scope():
        variable = tf.Variable([1.0])
        optimizer = tko.SGD(1.0, gradient_reducer=lambda gradients: gradients)
    with pytest.raises(ValueError, match=r"`gradient_reducer`.*CentralStorageStrategy"):
        central.run(lambda: optimizer.apply_gradients([(tf.constant([1.0]), variable)]))
    assert variable.numpy() == [1.0]


def scope_of(strategy):
    return contextlib.nullcontext() if strategy is None else strategy.scope()


@pytest.mark.one_keras
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("way", ["outside", "other", "reverse", "default"])
def test_a_step_elsewhere_names_both_strategies(way, traced, strategy, strategies, central):
    """The optimizer was built, and stepped, where it belongs; then the step goes elsewhere."""
    made, stepped = {
        "outside": (strategy, None),
        "other": (strategy, central),
        "reverse": (central, strategies[4]),
        "default": (None, strategy),
    }[way]
    with scope_of(made):
        variable = tf.Variable([1.0])
        optimizer = tko.SGD(0.25, momentum=0.5, name="mine")

    def apply():
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])

    def step(strategy):
        return apply() if strategy is None else strategy.run(apply)

    step(made)
    value, state = variable.numpy(), optimizer.get_weights()
    names = [type(s or tf.distribute.get_strategy()).__name__ for s in (made, stepped)]
    run = traced_or_not(step, traced)
    with pytest.raises(ValueError) as caught:
        run(stepped)
    assert "'mine'" in str(caught.value)
    for name in names:
        assert name in str(caught.value)
    with scope_of(stepped), pytest.raises(ValueError, match="'mine'"):
        apply()
    assert variable.numpy() == value
    for now, before in zip(optimizer.get_weights(), state):
        np.testing.assert_array_equal(now, before)
    step(made)
    assert int(optimizer.iterations.numpy()) == 2


def test_strategies_of_one_replica_may_be_left():
    single = tf.distribute.OneDeviceStrategy("CPU:0")
    with single.scope():
        variable = tf.Variable([1.0])
        optimizer = tko.SGD(0.25)
    single.run(lambda: optimizer.apply_gradients([(tf.constant([1.0]), variable)]))
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert variable.numpy() == [0.5]


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("case", ["missing", "other", "order"])
def test_gradients_that_one_replica_has_not_are_named(case, traced, strategy):
    with strategy.scope():
        one, two = (tf.Variable([1.0], name=name) for name in ("one", "two"))
        optimizer = tko.SGD(1.0)
        optimizer.build([one, two])
    g = tf.constant([0.25])
    second = {
        "missing": [(g, one), (None, two)],
        "other": [(None, one), (g, two)],
        "order": [(g, two), (g, one)],
    }[case]
    first = [(g, one), (None, two)] if case == "other" else [(g, one), (g, two)]

    def step(first, second):
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            optimizer.apply_gradients(second if tf.get_static_value(number) else first)

        strategy.run(replica)

    run = tf.function(step, autograph=False) if traced else step
    names = {"missing": "'two'", "other": "'one', 'two'", "order": "'two', 'one'"}[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some have no gradient
        with pytest.raises(ValueError, match=f"replicas 0 and 1 .* differ in: {names}\\."):
            run(first, second)
    values = [v.numpy() for v in (*one.values, *two.values)]
    assert values == [1.0] * 4 and int(optimizer.iterations.numpy()) == 0
    step([(g, one), (g, two)], [(g, one), (g, two)])  # and the next one works
    assert [v.numpy() for v in (*one.values, *two.values)] == [0.5] * 4


@pytest.mark.parametrize("traced", [False, True])
def test_a_gradient_that_replicas_share_counts_for_each(traced, strategy):
    with strategy.scope():
        dense, table = tf.Variable([1.0], name="dense"), tf.Variable([[1.0], [1.0]])
        optimizer = tko.SGD(1.0)
        optimizer.build([dense, table])
    shared = tf.constant([0.25])
    slices = tf.IndexedSlices(tf.constant([[0.125]]), tf.constant([1]), tf.constant([2, 1]))

    def step():
        pairs = [(shared, dense), (slices, table)]
        strategy.run(lambda: optimizer.apply_gradients(pairs))

    traced_or_not(step, traced)()
    assert [v.numpy() for v in dense.values] == [0.5, 0.5]
    for value in table.values:
        np.testing.assert_array_equal(value.numpy(), [[1.0], [0.75]])
