"""Two replicas give what one replica with the whole batch gives."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

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
    **{
        cls.__name__.lower(): (cls, {})
        for cls in harness.OPTIMIZERS
        if cls not in (tko.SGD, tko.Adam, tko.AdamW, tko.RMSprop)
    },
}


def shares_of(gradients):
    """Splits every gradient into two uneven parts, one for each replica."""
    return [[[0.3 * g for g in batch], [0.7 * g for g in batch]] for batch in gradients]


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_equal_one(case, jit, strategy):
    cls, arguments = CASES[case]
    arguments = {"learning_rate": 0.01, "jit_compile": jit} | ALL | arguments
    gradients, starts = harness.gradient_sequence(20), harness.starts()
    optimizer, values = harness.run_in_replicas(
        strategy, lambda: cls(**arguments), shares_of(gradients), starts
    )
    expected = harness.run(cls(**arguments), gradients, starts, "function")
    for value, other in zip(values, expected):
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-6)
    assert int(optimizer.iterations) == 10


def test_gradients_are_clipped_after_they_are_summed(strategy):
    with strategy.scope():
        variable = tf.Variable([0.0])
        optimizer = tko.SGD(1.0, global_clipnorm=1.0)
    strategy.run(lambda: optimizer.apply_gradients([(tf.constant([5.0]), variable)]))
    assert variable.numpy() == [-1.0]  # each replica clipped alone would give -2


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

    step = tf.function(step, autograph=False) if traced else step
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

    step = tf.function(step, autograph=False) if traced else step
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
    with strategy.scope(), pytest.raises(RuntimeError, match=r"strategy.run\("):
        inside.apply_gradients(pairs)
    stray = tf.Variable([1.0], name="stray")
    with pytest.raises(ValueError, match="'stray' was created outside the scope"):
        strategy.run(lambda: inside.apply_gradients([(tf.constant([1.0]), stray)]))
    assert variable.numpy() == [1.0]


def test_average_can_be_finalized_under_a_strategy(strategy):
    with strategy.scope():
        variable = tf.Variable([1.0])
        optimizer = tko.SGD(0.25, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        strategy.run(lambda: optimizer.apply_gradients([(tf.constant([1.0]), variable)]))
    with strategy.scope():
        optimizer.finalize_variable_values([variable])
    values = [v.numpy()[0] for v in strategy.experimental_local_results(variable)]
    assert values == [0.25, 0.25]  # (0.5 + 0.0) / 2
