"""TensorFlow Probability takes our optimizers where it takes Keras' own."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tf_keras_optim as tko

TARGET = np.linspace(-1.0, 1.0, 10).astype("f")


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize(
    "make", [lambda **kw: tko.Adam(0.05, **kw), lambda **kw: tko.SGD(0.1, momentum=0.9, **kw)]
)
def test_minimize_reaches_the_optimum_of_a_quadratic(make, jit):
    x = tf.Variable(tf.zeros([10]))
    curvature = tf.constant(np.linspace(0.5, 2.0, 10), tf.float32)
    losses = tfp.math.minimize(
        lambda: tf.reduce_sum(curvature * (x - TARGET) ** 2), 400, make(jit_compile=jit)
    )
    np.testing.assert_allclose(x.numpy(), TARGET, atol=1e-3)
    assert losses.shape == [400]
    assert float(losses[-1]) < 1e-5 < float(losses[0])


def test_minimize_equals_kerass_own():
    def run(optimizer):
        x = tf.Variable(tf.zeros([10]))
        return tfp.math.minimize(lambda: tf.reduce_sum((x - TARGET) ** 2), 50, optimizer)

    ours, peer = run(tko.Adam(0.1)), run(tf.keras.optimizers.Adam(0.1))
    np.testing.assert_allclose(ours, peer, rtol=1e-4, atol=1e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [None, True])
def test_a_surrogate_posterior_is_fitted_inside_a_function(jit):
    """A normal prior and normal data have a normal posterior, known exactly."""
    tf.random.set_seed(0)
    data = tf.constant([1.0, 2.0, 3.0, 2.0])

    def log_probability(mean):
        prior = tfp.distributions.Normal(0.0, 1.0).log_prob(mean)
        likelihood = tfp.distributions.Normal(mean[..., None], 1.0).log_prob(data)
        return prior + tf.reduce_sum(likelihood, axis=-1)

    location, spread = tf.Variable(0.0), tf.Variable(0.0)
    surrogate = tfp.distributions.Normal(
        location, tfp.util.DeferredTensor(spread, tf.nn.softplus)
    )
    optimizer = tko.Adam(0.05)

    @tf.function(jit_compile=jit, autograph=False)
    def fit():
        return tfp.vi.fit_surrogate_posterior(
            log_probability, surrogate, optimizer, num_steps=500, sample_size=8, seed=1
        )

    losses = fit()
    assert losses.shape == [500]
    assert float(location.numpy()) == pytest.approx(8.0 / 5.0, abs=0.1)
    assert float(tf.nn.softplus(spread).numpy()) == pytest.approx(5.0**-0.5, abs=0.1)
