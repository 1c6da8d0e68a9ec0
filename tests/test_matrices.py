"""Tensors as matrices, and their orthogonalization, against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tf_keras_optim.engine.numerics import matrices
from tf_keras_optim.engine.numerics.matrices import MatrixAxes

JORDAN = [(3.4445, -4.775, 2.0315)] * 5
# The polynomial of Newton's iteration, by which every singular value goes to 1.
NEWTON = [(1.5, -0.5, 0.0)] * 30


def iterated(x, coefficients, safety=1.0):
    x = x / (safety * np.sqrt(np.sum(x**2, (-2, -1), keepdims=True)) + 1e-7)
    for a, b, c in coefficients:
        gram = x @ np.swapaxes(x, -1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def random(*shape, scale=1.0):
    return np.random.default_rng(0).normal(0.0, scale, shape)


@pytest.mark.one_keras
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-8])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (2, 4, 3), (3, 1), (1, 1)])
def test_it_is_newton_schulz(shape, scale):
    x = random(*shape, scale=scale)
    for dtype, bound in (("float32", 2e-5), ("float64", 1e-12)):
        given = tf.constant(x, dtype)
        for safety in (1.0, 1.02):
            found = matrices.orthogonalized(given, JORDAN, safety=safety)
            assert found.dtype == given.dtype
            np.testing.assert_allclose(found, iterated(x, JORDAN, safety), atol=bound)
        norms = matrices.norm(given)
        expected = scale * np.sqrt(np.sum((x / scale) ** 2, (-2, -1), keepdims=True))
        np.testing.assert_allclose(norms, expected, rtol=1e-6)


@pytest.mark.one_keras
def test_it_ends_at_the_nearest_orthogonal_matrix():
    x = random(5, 3)
    u, _, v = np.linalg.svd(x, full_matrices=False)
    found = matrices.orthogonalized(tf.constant(x), NEWTON)
    np.testing.assert_allclose(found, u @ v, atol=1e-10)


@pytest.mark.one_keras
def test_narrow_products_stay_near():
    x = tf.constant(random(6, 9), tf.float32)
    wide = matrices.orthogonalized(x, JORDAN)
    narrow = matrices.orthogonalized(x, JORDAN, compute_dtype=tf.bfloat16)
    assert narrow.dtype == tf.float32
    assert 1e-4 < float(tf.reduce_max(tf.abs(narrow - wide))) < 0.1


@pytest.mark.one_keras
@pytest.mark.parametrize("jit", [True, False])
def test_nothing_and_zeros_stay_what_they_are(jit):
    compiled = tf.function(lambda x: matrices.orthogonalized(x, JORDAN), jit_compile=jit)
    assert compiled(tf.zeros([0, 3])).shape == (0, 3)
    np.testing.assert_array_equal(compiled(tf.zeros([2, 3])), np.zeros((2, 3)))


@pytest.mark.one_keras
@pytest.mark.parametrize(
    ("axes", "shape", "sizes"),
    [
        (MatrixAxes((0,), (1,)), (3, 4), (3, 4)),
        (MatrixAxes((0, 1, 2), (3,)), (2, 3, 4, 5), (24, 5)),
        (MatrixAxes((0,), (1, 2)), (8, 2, 3), (8, 6)),
        (MatrixAxes((0,), (2,), (1,)), (8, 2, 3), (8, 3)),
        (MatrixAxes((3,), (0, 1, 2)), (2, 3, 4, 5), (5, 24)),
    ],
)
def test_a_tensor_becomes_matrices_and_back(axes, shape, sizes):
    x = tf.constant(random(*shape))
    matrix = axes.matrix(x)
    assert axes.sizes(shape) == sizes
    assert tuple(matrix.shape) == (*axes.batch_shape(shape), *sizes)
    np.testing.assert_array_equal(axes.tensor(matrix, shape), x)
    moved = np.moveaxis(x.numpy(), axes.batch, range(len(axes.batch)))
    if axes.batch:  # one matrix for each head
        np.testing.assert_array_equal(matrix[1], moved[1])
    if axes.rows == (3,):
        np.testing.assert_array_equal(matrix, x.numpy().reshape(-1, 5).T)
