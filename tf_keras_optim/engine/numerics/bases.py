"""Bases of eigenvectors of symmetric matrices that change slowly.

Outside XLA TensorFlow's own decompositions compute them. Eigenvectors that XLA compiles take
up to a hundred times as long, so there a basis is found by orthogonal iteration alone: a
product and a QR decomposition for each round.
"""

import tensorflow as tf

from tf_keras_optim.engine.numerics import matrices
from tf_keras_optim.engine.tensorflow import distribution

ROUNDS = 8  # of orthogonal iteration under XLA, from a basis that is the identity


def next_basis(factor: tf.Tensor, basis: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a basis nearer to the eigenvectors of a matrix, by descending eigenvalues.

    ```
    order = indices of diag(Q^T F Q), from the largest to the smallest
    Q <- Q[:, order]
    Q <- eigenvectors of F, if Q was the identity; else the orthogonal factor of F Q
    ```

    F is divided by its largest element first, so its own size does not matter. Where F is 0
    the basis stays; where F or the result is not finite the basis is NaN.

    Args:
      factor: symmetric positive semidefinite matrices F, floating `[*batch, n, n]`.
      basis: orthogonal matrices Q of that shape.

    Returns:
      basis: the new ones.
      order: int32 `[*batch, n]`, which column of the old basis stands in each place.
    """
    batch = basis.shape.rank - 2
    largest = matrices.largest(factor)
    scaled = tf.math.divide_no_nan(factor, largest)
    energies = tf.reduce_sum(basis * tf.matmul(scaled, basis), -2)
    order = tf.argsort(energies, direction="DESCENDING", stable=True)
    ordered = tf.gather(basis, order, axis=batch + 1, batch_dims=batch)
    finite = tf.reduce_all(tf.math.is_finite(scaled))
    safe = tf.where(finite, scaled, tf.zeros_like(scaled))  # else a decomposition may raise
    eye = tf.eye(basis.shape[-1], dtype=basis.dtype)
    is_new = tf.reduce_all(tf.equal(basis, eye))
    if distribution.in_xla():
        found = _iterated(safe, ordered, tf.where(is_new, ROUNDS, 1))
    else:
        found = tf.cond(
            is_new,
            lambda: tf.linalg.eigh(safe)[1][..., ::-1],
            lambda: _iterated_once(safe, ordered),
        )
    found = tf.where(largest > 0.0, found, ordered)
    return tf.where(finite, found, tf.constant(float("nan"), basis.dtype)), order


def _iterated_once(factor: tf.Tensor, basis: tf.Tensor) -> tf.Tensor:
    return tf.linalg.qr(tf.matmul(factor, basis))[0]


def _iterated(factor: tf.Tensor, basis: tf.Tensor, rounds: tf.Tensor) -> tf.Tensor:
    """Returns a basis after some rounds of orthogonal iteration."""
    _, found = tf.while_loop(
        lambda number, _: number < rounds,
        lambda number, q: (number + 1, _iterated_once(factor, q)),
        [tf.constant(0), basis],
    )
    return found


def into(
    matrix: tf.Tensor, left: tf.Tensor | None = None, right: tf.Tensor | None = None
) -> tf.Tensor:
    """Returns matrices in the coordinates of bases: `left^T matrix right`.

    Args:
      matrix: `[*batch, rows, columns]`.
      left: basis of the rows, or `None` for the identity.
      right: basis of the columns, likewise.
    """
    if left is not None:
        matrix = tf.matmul(left, matrix, transpose_a=True)
    return matrix if right is None else tf.matmul(matrix, right)


def out_of(
    matrix: tf.Tensor, left: tf.Tensor | None = None, right: tf.Tensor | None = None
) -> tf.Tensor:
    """Undoes `into`: `left matrix right^T`."""
    if left is not None:
        matrix = tf.matmul(left, matrix)
    return matrix if right is None else tf.matmul(matrix, right, transpose_b=True)
