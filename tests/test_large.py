"""Variables large enough for XLA's sums to be arranged in rows, with a remainder."""

import numpy as np
import pytest
import tensorflow as tf

import tf_keras_optim as tko
from tests.support import xla

SHAPE = (97, 131)  # 12 rows of 1024 and 419 more


def step_of(optimizer, variable, compiled=True):
    """Returns a compiled step."""
    optimizer.build([variable])
    return tf.function(
        lambda gradient: optimizer.apply_gradients([(gradient, variable)]),
        jit_compile=compiled,
        autograph=False,
    )


@pytest.fixture
def gradient():
    return np.random.default_rng(0).normal(size=SHAPE).astype("float32")


@pytest.mark.one_keras
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm"])
def test_clips_to_the_norm_of_all_elements(option, dtype, gradient):
    xla.need(dtype)
    variable = tf.Variable(tf.zeros(SHAPE))
    gradient = gradient.astype(dtype)
    step_of(tko.SGD(1.0, **{option: 2.0}), variable)(tf.constant(gradient))
    exact = gradient.astype("float64")
    expected = -2.0 * exact / np.linalg.norm(exact)
    np.testing.assert_allclose(variable.numpy(), expected, rtol=2e-6)


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("option", "bad"),
    [({}, np.nan), ({}, -np.inf), ({"clipnorm": 1.0}, np.nan), ({"clipnorm": 1.0}, np.inf)],
    ids=str,
)
def test_one_element_that_is_not_finite_is_found_wherever_it_is(option, bad, gradient):
    variable = tf.Variable(tf.ones(SHAPE))
    optimizer = tko.Adam(0.1, skip_nonfinite=True, **option)
    step = step_of(optimizer, variable)
    for place in (0, 5000, 12 * 1024 - 1, 12 * 1024, gradient.size - 1):
        spoilt = gradient.copy()
        spoilt.flat[place] = bad
        step(tf.constant(spoilt))
        np.testing.assert_array_equal(variable.numpy(), 1.0, err_msg=str(place))
    assert int(optimizer.skipped_steps) == 5 and int(optimizer.iterations) == 0
    gradient.flat[3] = 3e38  # finite, though its square and some sums are not
    step(tf.constant(np.abs(gradient)))
    assert int(optimizer.skipped_steps) == 5 and int(optimizer.iterations) == 1


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("name", "rate"),
    [("Lamb", 0.1), ("Adafactor", 0.1), ("Lion", 0.1), ("Adadelta", 10.0), ("Ftrl", 0.1)],
)
def test_kernels_agree(name, rate, gradient):
    values = []
    for options, compiled in (
        ({"jit_compile": False}, False),
        ({"jit_compile": True}, False),
        ({}, True),
    ):
        variable = tf.Variable(tf.reshape(tf.linspace(-1.0, 1.0, gradient.size), SHAPE))
        optimizer = getattr(tko, name)(rate, gradient_accumulation_steps=2, **options)
        step = step_of(optimizer, variable, compiled)
        for factor in (1.0, -0.5, 2.0, 0.3):
            step(tf.constant(gradient * factor))
        values.append(variable.numpy())
    assert np.abs(values[0] - np.linspace(-1, 1, gradient.size).reshape(SHAPE)).max() > 1e-3
    for other in values[1:]:
        np.testing.assert_allclose(other, values[0], rtol=0, atol=1e-6)
