"""Inverse roots of symmetric matrices, and tensors cut into blocks of bounded sides.

Outside XLA the roots come from TensorFlow's eigenvectors; in what XLA compiles, where these
take too long, from products alone (a coupled Newton iteration).
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from tf_keras_optim.engine.numerics import matrices
from tf_keras_optim.engine.tensorflow import distribution

_ROUNDS, _NEAR = 40, 1e-6  # of the iteration under XLA: at most so many, and when it ends


def inverse_root(matrix: tf.Tensor, root: int, epsilon: float, scale: tf.Tensor) -> tf.Tensor:
    """Returns `(A / scale + epsilon * |A / scale| I)^(-1 / root)`, |.| the largest eigenvalue.

    Eigenvalues below 0, which are rounding, are lifted with all others first. Under XLA |.| is
    the Frobenius norm, which is at least as large. Where A is 0 or not finite the result is not
    finite.

    Args:
      matrix: symmetric positive semidefinite matrices A, floating `[..., n, n]`.
      root: a positive integer.
      epsilon: a small number.
      scale: what they are divided by, 0-d, above 0.
    """
    size = matrices.largest(matrix)
    finite = tf.reduce_all(tf.math.is_finite(matrix))
    unit = tf.math.divide_no_nan(matrix, size)
    unit = tf.where(finite, unit, tf.zeros_like(unit))  # else a decomposition may raise
    found = _by_newton if distribution.in_xla() else _by_eigenvectors
    result = found(unit, root, epsilon) * tf.pow(size / scale, -1.0 / root)
    return tf.where(finite, result, tf.constant(float("nan"), matrix.dtype))


def _by_eigenvectors(matrix: tf.Tensor, root: int, epsilon: float) -> tf.Tensor:
    values, vectors = tf.linalg.eigh(matrix)
    values = values - tf.minimum(values[..., :1], 0.0)
    values = values + epsilon * values[..., -1:]
    powers = tf.pow(values, -1.0 / root)
    return tf.matmul(vectors * powers[..., None, :], vectors, transpose_b=True)


def _by_newton(matrix: tf.Tensor, root: int, epsilon: float) -> tf.Tensor:
    """Returns the root by products alone.

    ```
    M = z A,  H = z^(1/p) I,  z = (1 + p) / (2 |A|)
    T = ((p + 1) I - M) / p,  M <- T^p M,  H <- H T       until M is the identity
    ```
    """
    eye = tf.eye(matrix.shape[-1], dtype=matrix.dtype)
    norm = matrices.norm(matrix)
    damped = matrix + epsilon * norm * eye
    z = (1.0 + root) / (2.0 * matrices.norm(damped))

    def far(number: tf.Tensor, m: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        return (number < _ROUNDS) & tf.reduce_any(tf.abs(m - eye) > _NEAR)

    def nearer(number: tf.Tensor, m: tf.Tensor, h: tf.Tensor) -> tuple[tf.Tensor, ...]:
        t = ((root + 1.0) * eye - m) / float(root)
        power = t
        for _ in range(int(math.log2(root))):
            power = tf.matmul(power, power)
        return number + 1, tf.matmul(power, m), tf.matmul(h, t)

    start = [tf.constant(0), z * damped, tf.pow(z, 1.0 / root) * eye]
    return tf.while_loop(far, nearer, start)[2]


def are_axes(matrix: tf.Tensor) -> tf.Tensor:
    """Says of matrices `[..., n, n]` whether they are the identity, by their first rows.

    Returns:
      Bool tensor `[..., 1, 1]`.
    """
    first = tf.eye(1, matrix.shape[-1], dtype=matrix.dtype)
    return tf.reduce_all(tf.equal(matrix[..., :1, :], first), [-2, -1], keepdims=True)


def block_sizes(shape: Sequence[int], block: int) -> tuple[int, int, int, int]:
    """Returns into how many blocks rows and columns are cut, and how large these are.

    Args:
      shape: numbers of rows and of columns.
      block: the largest side of a block. Sides that are no multiples are filled up with zeros.
    """
    counts = [max(1, math.ceil(side / block)) for side in shape]
    rows, columns = (math.ceil(side / count) for side, count in zip(shape, counts))
    return counts[0], counts[1], rows, columns


def cut(matrix: tf.Tensor, block: int) -> tf.Tensor:
    """Returns matrices `[*batch, m, n]` as blocks `[*batch, k, l, rows, columns]`."""
    *batch, m, n = matrix.shape
    k, l, rows, columns = block_sizes((m, n), block)  # noqa: E741
    filled = [[0, 0]] * len(batch) + [[0, k * rows - m], [0, l * columns - n]]
    parts = tf.reshape(tf.pad(matrix, filled), [*batch, k, rows, l, columns])
    return _swapped(parts)


def joined(blocks: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Undoes `cut`.

    Args:
      blocks: what that returned, or others of that shape.
      shape: the numbers of rows and columns of the matrices.
    """
    *batch, k, l, rows, columns = blocks.shape  # noqa: E741
    whole = tf.reshape(_swapped(blocks), [*batch, k * rows, l * columns])
    return whole[..., : shape[0], : shape[1]]


def _swapped(parts: tf.Tensor) -> tf.Tensor:
    """Exchanges the third last axis with the second last."""
    rank = parts.shape.rank
    return tf.transpose(parts, [*range(rank - 3), rank - 2, rank - 3, rank - 1])
