"""Subclasses that override a method, or are made from another class' `__dict__`."""

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tf_keras_optim import LossScaleOptimizer

keras = tf.keras


class HalfApply(tko.SGD):
    """Overrides what Keras 3 calls from everywhere."""

    def apply(self, grads, trainable_variables=None):
        halves = [None if g is None else 0.5 * tf.convert_to_tensor(g) for g in grads]
        return super().apply(halves, trainable_variables)


class HalfPairs(tko.SGD):
    """Overrides what users call, and Keras 2 from everywhere."""

    def apply_gradients(self, grads_and_vars, **kwargs):
        return super().apply_gradients([(g * 0.5, v) for g, v in grads_and_vars], **kwargs)


class HalfPairsOnly(tko.SGD):
    """The same, without further arguments."""

    def apply_gradients(self, grads_and_vars):
        return super().apply_gradients([(g * 0.5, v) for g, v in grads_and_vars])


class HalfLoss(tko.SGD):
    """Overrides what `minimize` calls first."""

    def compute_gradients(self, loss, var_list, tape=None):
        return [(g * 0.5, v) for g, v in super().compute_gradients(loss, var_list, tape)]


APPLYING = [HalfApply, HalfPairs, HalfPairsOnly]


def from_dict(cls):
    """A class as libraries make it that wrap any optimizer."""

    class Mixin:
        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            halves = [(g * 0.5, v) for g, v in grads_and_vars]
            return super(self.__class__, self).apply_gradients(halves, *args, **kwargs)

    return type(cls.__name__, (cls,), dict(Mixin.__dict__))


def mean_model():
    model = keras.Sequential(
        [
            keras.layers.Input((1,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"),
        ],
        name="mean",
    )
    return model, lambda y, p: tf.reduce_mean(p)


@pytest.mark.one_keras
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("cls", APPLYING)
def test_what_overrides_applying_is_used_by_fit_and_minimize(cls, wrap):
    optimizer, weight = cls(0.5), tf.Variable(1.0)
    if wrap:
        optimizer = LossScaleOptimizer(optimizer, initial_scale=64.0)
    optimizer.build([weight])
    minimize = lambda: optimizer.minimize(lambda: 1.0 * weight, [weight])  # noqa: E731
    minimize()
    tf.function(minimize, autograph=False)()
    tf.function(minimize, autograph=False, jit_compile=True)()
    assert float(weight.numpy()) == 0.25
    with tf.GradientTape() as tape:
        loss = optimizer.scale_loss(1.0 * weight)
    (gradient,) = tape.gradient(loss, [weight])
    if not harness.IS_KERAS_3 and wrap:
        (gradient,) = optimizer.get_unscaled_gradients([gradient])
    optimizer.apply_gradients([(gradient, weight)])
    assert float(weight.numpy()) == 0.0
    assert int(optimizer.iterations) == 4


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("cls", APPLYING)
def test_fit_uses_it(cls, eagerly):
    for wrap in (False, True):
        model, loss = mean_model()
        optimizer = cls(0.5)
        if wrap:
            optimizer = LossScaleOptimizer(optimizer, initial_scale=64.0)
        model.compile(optimizer, loss, run_eagerly=eagerly)
        model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=2, verbose=0)
        assert float(model.get_weights()[0][0, 0]) == 0.5


@pytest.mark.one_keras
@pytest.mark.parametrize("cls", APPLYING)
def test_replicas_use_it(cls, strategy):
    """In replicas, and called across them with values per replica or with sums."""
    for wrap in (False, True):
        with strategy.scope():
            optimizer, weight = cls(0.25), tf.Variable(2.0)
            if wrap:
                optimizer = LossScaleOptimizer(optimizer, initial_scale=64.0)
            optimizer.build([weight])

        @tf.function(autograph=False)
        def step(optimizer=optimizer, weight=weight):
            strategy.run(lambda: optimizer.minimize(lambda: 1.0 * weight, [weight]))

        step()
        assert float(weight.numpy()) == 2.0 - 0.25
        with strategy.scope():
            if not wrap:
                optimizer.apply_gradients([(tf.constant(2.0), weight)])
                assert float(weight.numpy()) == 1.5


def test_an_overflow_does_not_reach_an_overridden_method():
    calls = []

    class Counts(HalfPairs):
        def apply_gradients(self, grads_and_vars, **kwargs):
            pairs = list(grads_and_vars)
            calls.append([float(g.numpy()) for g, _ in pairs])
            return super().apply_gradients(pairs, **kwargs)

    optimizer, weight = LossScaleOptimizer(Counts(0.5), initial_scale=64.0), tf.Variable(1.0)
    for slope in (1.0, float("inf"), 2.0):
        optimizer.minimize(lambda slope=slope: slope * weight, [weight])
    assert calls == [[1.0], [2.0]]
    assert float(weight.numpy()) == 1.0 - 0.25 - 0.5
    assert (float(optimizer.loss_scale), int(optimizer.skipped_steps)) == (32.0, 1)
    assert int(optimizer.iterations) == 2


@pytest.mark.one_keras
@pytest.mark.parametrize("bad", [0, 1])
def test_an_overflow_on_one_replica_keeps_all_from_an_overridden_method(bad, strategy):
    with strategy.scope():
        optimizer = LossScaleOptimizer(HalfApply(0.25, use_ema=True), initial_scale=64.0)
        weight = tf.Variable(2.0)
        optimizer.build([weight])

    @tf.function(autograph=False)
    def step(value):
        def replica():
            own = tf.distribute.get_replica_context().replica_id_in_sync_group
            mine = tf.where(tf.equal(own, bad), value, 1.0)
            optimizer.minimize(lambda: mine * weight, [weight])

        strategy.run(replica)

    for value in (1.0, float("inf"), 1.0):
        step(tf.constant(value))
    local = [v.numpy() for v in strategy.experimental_local_results(weight)]
    assert local == [1.5, 1.5]
    assert (float(optimizer.loss_scale), int(optimizer.skipped_steps.numpy())) == (32.0, 1)


def test_accumulation_and_slices_go_through_an_overridden_method():
    optimizer = LossScaleOptimizer(
        HalfApply(1.0, gradient_accumulation_steps=2), initial_scale=64.0
    )
    table, other = tf.Variable(tf.zeros([3, 1])), tf.Variable(0.0)
    for _ in range(2):
        optimizer.minimize(
            lambda: tf.reduce_sum(tf.gather(table, [0, 0, 2])) + other, [table, other]
        )
    np.testing.assert_array_equal(table.numpy(), [[-1.0], [0.0], [-0.5]])
    assert float(other.numpy()) == -0.5


def test_what_overrides_the_gradients_is_used_by_minimize():
    for wrap in (False, True):
        optimizer, weight = HalfLoss(0.5), tf.Variable(1.0)
        if wrap:
            optimizer = LossScaleOptimizer(optimizer, initial_scale=64.0)
        optimizer.minimize(lambda weight=weight: 1.0 * weight, [weight])
        assert float(weight.numpy()) == 0.75


def test_a_subclass_of_the_wrapper_is_used_by_minimize():
    class Half(LossScaleOptimizer):
        def apply_gradients(self, grads_and_vars, **kwargs):
            return super().apply_gradients([(g * 0.5, v) for g, v in grads_and_vars], **kwargs)

    optimizer, weight = Half(tko.SGD(0.5), initial_scale=64.0), tf.Variable(1.0)
    optimizer.minimize(lambda: 1.0 * weight, [weight])
    assert float(weight.numpy()) == 0.75


@pytest.mark.parametrize("cls", [tko.Adam, tko.SGD])
def test_classes_are_made_from_a_dict(cls):
    made = from_dict(cls)
    optimizer = made.from_config(cls(0.5, clipvalue=0.25).get_config())
    weight = tf.Variable(1.0)
    optimizer.apply_gradients([(tf.constant(1.0), weight)])
    expected, other = cls(0.5, clipvalue=0.25), tf.Variable(1.0)
    expected.apply_gradients([(tf.constant(0.5), other)])
    assert float(weight.numpy()) == float(other.numpy())
    optimizer.clipvalue = 0.125
    assert optimizer.get_config()["clipvalue"] == 0.125
    for source, target in ((optimizer, expected), (expected, optimizer)):
        target.load_state_dict(source.state_dict())
    wrapped = LossScaleOptimizer(optimizer)
    wrapped.minimize(lambda: 1.0 * weight, [weight])
    model, loss = mean_model()
    model.compile(from_dict(cls).from_config(cls(0.5).get_config()), loss)
    model.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0)
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(
        0.5 if cls is tko.Adam else 0.75, abs=1e-5
    )


def test_a_wrapper_is_made_from_a_dict():
    made, weight = from_dict(LossScaleOptimizer), tf.Variable(1.0)
    optimizer = made.from_config(LossScaleOptimizer(tko.SGD(0.5)).get_config())
    optimizer.minimize(lambda: 1.0 * weight, [weight])
    assert float(weight.numpy()) == 0.75
    optimizer.clipvalue = 0.25
    assert optimizer.inner_optimizer.clipvalue == 0.25


def test_lists_of_other_lengths_are_refused():
    optimizer, weight = tko.SGD(0.5), tf.Variable(1.0)
    with pytest.raises(ValueError, match="got 1 gradients for 2 variables"):
        optimizer.apply([tf.constant(1.0)], [weight, tf.Variable(1.0)])


@pytest.mark.one_keras
@pytest.mark.parametrize("wrap", [False, True])
def test_a_variable_that_is_given_twice_is_refused_before_anything_is_made(wrap):
    weight, gradient = tf.Variable(1.0, name="tied"), tf.constant(1.0)
    inner = tko.Adam(0.5)
    optimizer = LossScaleOptimizer(inner) if wrap else inner
    for step in (optimizer.apply_gradients, tf.function(optimizer.apply_gradients)):
        with pytest.raises(ValueError, match=r"'tied' was given twice.*Add its gradients up"):
            step([(gradient, weight), (gradient, weight)])
        assert not inner.built
    inner.build([weight, weight])
    assert len(inner.state_dict()["variables"]) == 1
    assert len(inner.variables) == (3 if not harness.IS_KERAS_3 else 4) + 4 * wrap
    with pytest.raises(ValueError, match="'tied' was given twice"):
        optimizer.apply_gradients([(gradient, weight), (gradient, weight)])
    assert float(weight.numpy()) == 1.0
