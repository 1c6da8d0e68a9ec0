"""Gradients with and without the loss scale: told apart in every flow, or refused."""

import threading

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support.steps import traced_or_not
from tf_keras_optim import LossScaleOptimizer

keras = tf.keras
SCALE = 1024.0
only_keras_3 = pytest.mark.skipif(
    not harness.IS_KERAS_3, reason="Keras 2 always applies unscaled gradients"
)


def scaled_sgd(rate=0.5, **arguments):
    return LossScaleOptimizer(tko.SGD(rate, **arguments), initial_scale=SCALE)


def scaled_gradients(optimizer, weight, slope=1.0):
    with tf.GradientTape() as tape:
        loss = optimizer.scale_loss(slope * weight)
    return tape.gradient(loss, [weight])


def look(optimizer, weight):
    """What a callback does that only logs the norm of the true gradients."""
    unscaled = optimizer.get_unscaled_gradients(scaled_gradients(optimizer, weight))
    assert float(tf.linalg.global_norm(unscaled)) == 1.0


def in_a_thread(function):
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


def as_it_is(gradients):
    return gradients


def clipped(gradients):
    return tf.clip_by_global_norm(gradients, 0.25)[0]


def replaced(gradients):
    """New tensors, in part of numbers that come from elsewhere."""
    return [tf.where(tf.math.is_finite(g), g, tf.zeros_like(g)) * 0.25 for g in gradients]


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    ("change", "moved"), [(as_it_is, 0.5), (clipped, 0.125), (replaced, 0.125)]
)
def test_what_is_made_of_unscaled_gradients_is_not_unscaled_again(change, moved, traced):
    optimizer, weight = scaled_sgd(), tf.Variable(1.0)
    optimizer.build([weight])

    def step():
        gradients = optimizer.get_unscaled_gradients(scaled_gradients(optimizer, weight))
        optimizer.apply_gradients(zip(change(gradients), [weight]))

    step = traced_or_not(step, traced)
    for count in (1, 2):
        step()
        assert float(weight.numpy()) == 1.0 - count * moved


@pytest.mark.parametrize("eagerly", [False, True])
def test_fit_and_minimize_after_a_look_take_whole_steps(eagerly):
    optimizer = scaled_sgd()
    model = keras.Sequential(
        [keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False)], name="one"
    )
    model.compile(optimizer, lambda y, p: tf.reduce_mean(p), run_eagerly=eagerly)
    x = y = np.ones((1, 1), "f")
    weight = model.trainable_weights[0]
    native = weight.value if harness.IS_KERAS_3 else weight
    for _ in range(2):  # traced after a look, and called after another
        weight.assign([[1.0]])
        look(optimizer, native)
        model.fit(x, y, verbose=0)
        assert float(weight.numpy()[0, 0]) == 0.5
    look(optimizer, native)
    optimizer.minimize(lambda: tf.reduce_sum(native), [weight])
    assert float(weight.numpy()[0, 0]) == 0.0


@only_keras_3
@pytest.mark.parametrize("traced", [False, True])
def test_a_look_at_gradients_leaves_them_scaled(traced):
    optimizer, weight = scaled_sgd(), tf.Variable(1.0)
    optimizer.build([weight])

    def step():
        gradients = scaled_gradients(optimizer, weight)
        tf.linalg.global_norm(optimizer.get_unscaled_gradients(gradients))
        optimizer.apply_gradients(zip(gradients, [weight]))

    step = traced_or_not(step, traced)
    step()
    assert float(weight.numpy()) == 0.5
    # In the next step of a loop too, whatever was looked at before.
    optimizer.apply_gradients(zip(scaled_gradients(optimizer, weight), [weight]))
    assert float(weight.numpy()) == 0.0


@only_keras_3
def test_a_graph_is_asked_what_gradients_were_computed_from():
    """After a look; and clipped by the scaled norm, under a condition."""
    optimizer, weight = scaled_sgd(), tf.Variable(1.0)
    optimizer.build([weight])

    @tf.function(autograph=False)
    def step():
        (gradient,) = scaled_gradients(optimizer, weight)
        tf.linalg.global_norm(optimizer.get_unscaled_gradients([gradient]))

        def apply():
            optimizer.apply_gradients([(tf.clip_by_value(gradient, -256.0, 256.0), weight)])
            return True

        return tf.cond(tf.math.is_finite(gradient), apply, lambda: False)

    step()
    assert float(weight.numpy()) == 1.0 - 0.5 * 256.0 / SCALE


def test_one_thread_unscales_and_another_applies():
    optimizer, weight = scaled_sgd(), tf.Variable(1.0)
    for change, place in ((0.5, in_a_thread), (0.5, lambda f: f())):
        before = float(weight.numpy())
        unscaled = in_a_thread(
            lambda: optimizer.get_unscaled_gradients(scaled_gradients(optimizer, weight))
        )
        place(lambda unscaled=unscaled: optimizer.apply_gradients(zip(unscaled, [weight])))
        assert float(weight.numpy()) == before - change
    # Nor does a thread that only looks disturb this one.
    gradients = scaled_gradients(optimizer, weight)
    in_a_thread(lambda: look(optimizer, weight))
    if not harness.IS_KERAS_3:
        gradients = optimizer.get_unscaled_gradients(gradients)
    optimizer.apply_gradients(zip(gradients, [weight]))
    assert float(weight.numpy()) == -0.5


@only_keras_3
def test_what_cannot_be_told_raises_and_can_be_said():
    optimizer, weight = scaled_sgd(), tf.Variable(1.0)
    (unscaled,) = in_a_thread(
        lambda: clipped(optimizer.get_unscaled_gradients(scaled_gradients(optimizer, weight)))
    )
    with pytest.raises(ValueError, match=r"cannot be told.*Pass `scaled=False`"):
        optimizer.apply_gradients([(unscaled, weight)])
    assert float(weight.numpy()) == 1.0
    optimizer.apply_gradients([(unscaled, weight)], scaled=False)
    assert float(weight.numpy()) == 0.875
    optimizer.apply([unscaled * SCALE], [weight], scaled=True)
    assert float(weight.numpy()) == 0.75

    @tf.function(autograph=False)
    def apply(gradient):
        optimizer.apply_gradients([(gradient, weight)])

    with pytest.raises(ValueError, match="outside of this function"):
        apply(unscaled)
    gradients = scaled_gradients(optimizer, weight)
    half = optimizer.get_unscaled_gradients(gradients)
    other = tf.Variable(1.0)
    with pytest.raises(ValueError, match="Unscale all of them, or none"):
        optimizer.apply_gradients([(half[0], weight), (gradients[0], other)])
    assert float(weight.numpy()) == 0.75


def test_slices_and_missing_gradients_are_told_apart_too():
    table, other = tf.Variable(tf.ones([3, 2])), tf.Variable(1.0)
    optimizer = scaled_sgd()
    rows = tf.IndexedSlices(SCALE * tf.ones([2, 2]), (0, 0), (3, 2))
    unscaled = optimizer.get_unscaled_gradients([rows, None, SCALE])
    assert unscaled[1] is None
    np.testing.assert_array_equal(unscaled[0].values, np.ones((2, 2)))
    optimizer.apply_gradients(zip([unscaled[0], unscaled[2]], [table, other]))
    np.testing.assert_array_equal(table.numpy(), [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    assert float(other.numpy()) == 0.5


def test_small_float16_gradients_survive_unscaling():
    optimizer = LossScaleOptimizer(tko.SGD(1.0), initial_scale=2.0**15)
    gradient = tf.constant([2.0**-12], tf.float16)
    (unscaled,) = optimizer.get_unscaled_gradients([gradient])
    assert unscaled.dtype == tf.float32
    assert float(unscaled.numpy()[0]) == 2.0**-27


def test_replicas_clip_unscaled_gradients(strategy):
    with strategy.scope():
        optimizer, weight = scaled_sgd(), tf.Variable(1.0)
        optimizer.build([weight])

    @tf.function(autograph=False)
    def step():
        def replica():
            gradients = optimizer.get_unscaled_gradients(scaled_gradients(optimizer, weight))
            optimizer.apply_gradients(zip(clipped(gradients), [weight]))

        strategy.run(replica)

    step()
    assert float(weight.numpy()) == 1.0 - 0.125 * strategy.num_replicas_in_sync


def test_its_gradients_are_what_it_applies():
    optimizer, weight = scaled_sgd(), tf.Variable(1.0)
    for loss in (lambda: 1.0 * weight, None):
        before = float(weight.numpy())
        with tf.GradientTape() as tape:
            value = 1.0 * weight
        pairs = optimizer.compute_gradients(loss or value, [weight], None if loss else tape)
        assert float(pairs[0][0].numpy()) == (SCALE if harness.IS_KERAS_3 else 1.0)
        optimizer.apply_gradients(pairs)
        assert float(weight.numpy()) == before - 0.5


def test_numbers_are_scaled_like_tensors():
    optimizer = scaled_sgd()
    for loss in (2.0, 2, np.float32(2.0), tf.constant(2.0), lambda: 2.0):
        scaled = optimizer.scale_loss(loss)
        scaled = scaled() if callable(scaled) else scaled
        assert float(scaled) == 2.0 * SCALE
    plain = tko.SGD(loss_scale_factor=8.0)
    assert [float(plain.scale_loss(loss)) for loss in (2.0, tf.constant(2.0))] == [16.0, 16.0]
