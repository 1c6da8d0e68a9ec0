"""L-BFGS around TensorFlow Probability's: what it finds, tells, assigns and refuses."""

import sys

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko

keras = tf.keras


@pytest.fixture(autouse=True)
def _eagerly(request):
    """Tracing a search takes seconds; one test does."""
    eagerly = "float64" not in request.node.name
    tf.config.run_functions_eagerly(eagerly)
    yield
    tf.config.run_functions_eagerly(False)


def rosenbrock(x):
    return tf.reduce_sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


@pytest.mark.one_keras
def test_it_reaches_the_minimum_in_float64_and_tells_how():
    x, seen = tf.Variable([-1.2, 1.0, 0.5], dtype=tf.float64), []

    def progress(found):
        seen.append((found, x.numpy()))

    result = tko.minimize_lbfgs(
        lambda: rosenbrock(x), [x], progress=progress, progress_every=7, tolerance=1e-9
    )
    np.testing.assert_allclose(x.numpy(), 1.0, rtol=0, atol=1e-9)
    assert result.converged and not result.failed
    assert result.loss < 1e-17 and result.gradient_norm < 1e-9
    assert result.initial_loss == pytest.approx(
        float(rosenbrock(tf.constant([-1.2, 1.0, 0.5])))
    )
    assert result.iterations < result.evaluations
    assert [found.iterations for found, _ in seen][:3] == [7, 14, 21]
    assert seen[-1][0] == result
    for found, value in seen:
        assert float(rosenbrock(tf.constant(value))) == pytest.approx(found.loss, rel=1e-12)
    losses = [found.loss for found, _ in seen]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.one_keras
def test_variables_of_keras_of_any_shape_and_dtype():
    model = harness.small_model()
    wide, narrow = tf.Variable([[2.0]], dtype=tf.float64), tf.Variable(3.0, dtype=tf.bfloat16)
    unused, table = tf.Variable([7.0]), tf.Variable(tf.ones([4, 2]))
    x = tf.constant(harness.classification_data()[0])

    def total():
        rows = tf.gather(table, [1, 1, 3])
        fit = tf.reduce_mean(tf.square(model(x) - 1.0)) + tf.reduce_sum(tf.square(rows))
        return (
            fit + tf.cast(tf.reduce_sum(wide**2), tf.float32) + tf.cast(narrow**2, tf.float32)
        )

    variables = [*model.trainable_variables, wide, narrow, unused, table]
    first = float(total())
    result = tko.minimize_lbfgs(total, variables, max_iterations=5)
    assert result.initial_loss == pytest.approx(first, rel=1e-6)
    assert float(total()) == pytest.approx(result.loss, rel=1e-5)
    assert result.iterations == 5 and result.loss < 0.7 * first
    np.testing.assert_array_equal(unused.numpy(), [7.0])
    np.testing.assert_array_equal(table.numpy()[[0, 2]], 1.0)


@pytest.mark.one_keras
def test_what_is_not_finite_leaves_the_start_and_says_so():
    x = tf.Variable([1.0])
    result = tko.minimize_lbfgs(lambda: tf.reduce_sum(tf.math.log(x)), [x])
    value = float(x.numpy()[0])
    assert result.failed and not result.converged
    assert result.loss == float(np.log(np.float32(value))) <= result.initial_loss == 0.0
    cliff = tf.Variable([2.0])

    def wall():
        return tf.reduce_sum(tf.where(cliff < 2.0, tf.constant([np.nan]), cliff))

    result = tko.minimize_lbfgs(wall, [cliff])
    assert result.failed and not result.converged
    assert (result.loss, result.initial_loss, float(cliff.numpy()[0])) == (2.0, 2.0, 2.0)


@pytest.mark.one_keras
def test_what_is_refused_changes_nothing(monkeypatch, strategy):
    x, other = tf.Variable([1.0, 2.0], name="x"), tf.Variable([3.0], name="other")
    square = lambda: tf.reduce_sum(x**2)  # noqa: E731
    count = tf.Variable([1], name="count")

    def broken():
        raise OSError("no data")

    cases = [
        (square, x, {}, TypeError, "must be a list of variables"),
        (square, [], {}, ValueError, "`variables` is empty"),
        (square, [x, x], {}, ValueError, "'x' was given twice"),
        (square, [x, count], {}, TypeError, "'count' is int32"),
        (square, [other], {}, ValueError, "no gradient for any of the variables"),
        (lambda: x**2, [x], {}, ValueError, r"0-d tensor. Received: shape \(2,\)"),
        (lambda: np.nan * square(), [x], {}, ValueError, "at the start the loss is nan"),
        (square, [x], {"memory": 0}, ValueError, "`memory` must be an integer, at least 1"),
        (square, [x], {"tolerance": -1.0}, ValueError, "`tolerance` must be"),
        (broken, [x], {}, OSError, "no data"),
    ]
    for loss, variables, options, error, message in cases:
        with pytest.raises(error, match=message):
            tko.minimize_lbfgs(loss, variables, **options)
        np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])

    def stop(found):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tko.minimize_lbfgs(square, [x], progress=stop)
    np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])
    refused = pytest.raises(RuntimeError, match=r"outside of `tf\.function`")
    with tf.Graph().as_default(), refused:
        tko.minimize_lbfgs(square, [x])
    with strategy.scope(), pytest.raises(RuntimeError, match="several replicas"):
        tko.minimize_lbfgs(square, [x])
    monkeypatch.setitem(sys.modules, "tensorflow_probability", None)
    with pytest.raises(ImportError, match=r"pip install 'tf_keras_optim\[probability\]'"):
        tko.minimize_lbfgs(square, [x])


def test_a_constraint_is_refused():
    layer = keras.layers.Dense(1, kernel_constraint="non_neg")
    layer.build((None, 2))
    with pytest.raises(ValueError, match=r"kernel' has a constraint"):
        tko.minimize_lbfgs(lambda: tf.reduce_sum(layer.kernel), [layer.kernel])
