"""How often a step is traced: once, whatever changes from step to step."""

import gc
import itertools

import harness
import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko


@pytest.mark.one_keras
def test_an_eager_step_over_200_variables_is_traced_once():
    shapes = [(64, 64), (64,)] * 100
    variables = [tf.Variable(tf.zeros(shape)) for shape in shapes]
    optimizer = tko.Adam(0.1)
    for step in range(5):
        optimizer.learning_rate = 0.1 * (step + 1)
        optimizer.apply_gradients([(tf.ones_like(v), v) for v in variables])
    assert optimizer.trace_count == 1
    np.testing.assert_allclose(variables[-1].numpy(), -1.5, rtol=1e-4)


def test_fit_traces_the_step_once():
    optimizer = tko.Adam()
    model, _ = harness.fit(optimizer, epochs=2)
    traces = optimizer.trace_count
    x, y = harness.classification_data()
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert traces == optimizer.trace_count == 1


@pytest.mark.one_keras
def test_a_changed_batch_size_does_not_retrace_an_eager_step():
    model = harness.small_model()
    optimizer, loss = tko.Adam(), harness.classification_loss()
    x, y = harness.classification_data()
    for size in (8, 16, 32):
        with tf.GradientTape() as tape:
            value = loss(y[:size], model(x[:size]))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    assert optimizer.trace_count == 1


@pytest.mark.one_keras
def test_two_optimizers_in_one_traced_step():
    generator, critic = tf.Variable([1.0]), tf.Variable([2.0])
    first, second = tko.SGD(0.5), tko.Adam(0.1)

    @tf.function
    def step():
        with tf.GradientTape(persistent=True) as tape:
            score = critic * generator
            gain, loss = tf.reduce_sum(-score), tf.reduce_sum(score)
        first.apply_gradients([(tape.gradient(loss, generator), generator)])
        second.apply_gradients([(tape.gradient(gain, critic), critic)])

    for _ in range(3):
        step()
    assert (first.trace_count, second.trace_count) == (1, 1)
    # generator: 1 - 0.5 * (2 + c1 + c2); critic: plus 0.1 at every step while g > 0
    g, c = 1.0, 2.0
    moments = np.zeros(2)
    for t in range(1, 4):
        gradient_g, gradient_c = c, -g
        g -= 0.5 * gradient_g
        moments = moments * [0.9, 0.999] + [0.1 * gradient_c, 0.001 * gradient_c**2]
        alpha = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        c -= alpha * moments[0] / (np.sqrt(moments[1]) + 1e-7)
    np.testing.assert_allclose(generator.numpy(), [g], rtol=1e-5)
    np.testing.assert_allclose(critic.numpy(), [c], rtol=1e-5)


@pytest.mark.one_keras
def test_one_optimizer_serves_two_sets_of_variables():
    a, b = tf.Variable([1.0]), tf.Variable([1.0])
    optimizer = tko.SGD(1.0)
    optimizer.build([a, b])
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant([1.0]), a)])
        optimizer.apply_gradients([(tf.constant([2.0]), b)])
    assert optimizer.trace_count == 2
    assert (a.numpy(), b.numpy()) == ([-2.0], [-5.0])


def functions_in_memory():
    """Returns how many traced functions there are."""
    kind = type(tf.function(lambda: tf.constant(0)).get_concrete_function())
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())


@pytest.mark.one_keras
def test_steps_of_many_sets_of_variables_are_not_all_kept():
    """As with stochastic depth or experts: each call has gradients for other variables."""
    variables = [tf.Variable([0.0]) for _ in range(8)]
    optimizer = tko.SGD(1.0)
    optimizer.build(variables)
    one = tf.constant([1.0])
    before = functions_in_memory()
    sets = [s for n in (3, 4) for s in itertools.combinations(range(8), n)]
    assert len(sets) == 126
    usual = list(range(8))
    for chosen in sets:
        optimizer.apply_gradients([(one, variables[i]) for i in chosen])
        optimizer.apply_gradients([(one, variables[i]) for i in usual])
    kept = functions_in_memory() - before
    assert 30 <= kept <= 80
    # The set that comes again and again is traced once.
    assert optimizer.trace_count == 127
    expected = [126.0 + sum(i in chosen for chosen in sets) for i in range(8)]
    assert [-v.numpy()[0] for v in variables] == expected
    # Sets that come in turns are all kept.
    before = optimizer.trace_count
    for _ in range(2):
        for chosen in sets[:30]:
            optimizer.apply_gradients([(one, variables[i]) for i in chosen])
    assert optimizer.trace_count == before + 30


@pytest.mark.one_keras
def test_a_tape_does_not_see_the_step():
    """A tape around a step must not watch what the step alone reads."""
    variable, other = tf.Variable([1.0]), tf.Variable([1.0])
    optimizer = tko.SGD(1.0)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(variable**2)
            optimizer.apply_gradients([(tf.constant([1.0]), other)])
        assert [id(v) for v in tape.watched_variables()] == [id(variable)]
        assert tape.gradient(loss, variable).numpy() == [2.0]


@pytest.mark.one_keras
def test_functions_may_be_run_eagerly_for_debugging():
    tf.config.run_functions_eagerly(True)
    try:
        variable = tf.Variable([1.0])
        tko.Adam(0.1).apply_gradients([(tf.constant([1.0]), variable)])
    finally:
        tf.config.run_functions_eagerly(False)
    np.testing.assert_allclose(variable.numpy(), [0.9], atol=1e-5)
