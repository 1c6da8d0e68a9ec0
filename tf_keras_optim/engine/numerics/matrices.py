"""Tensors as matrices, and the nearest orthogonal matrix by products alone.

All functions are pure. Which axes of a tensor are rows and which are columns is data
(`MatrixAxes`), so that it can be part of what is known of a variable when a kernel is made.
"""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

Triple = tuple[float, float, float]

_EPSILON = 1e-7  # beside the norm; smaller tensors fade out


@dataclasses.dataclass(frozen=True)
class MatrixAxes:
    """Which axes of a tensor a matrix, or a batch of matrices, is made of.

    Attributes:
      rows: the axes that become rows, in this order.
      columns: the axes that become columns.
      batch: the axes that number the matrices.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    batch: tuple[int, ...] = ()

    def sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        """Returns the numbers of rows and of columns for a tensor's shape."""
        return _product(shape, self.rows), _product(shape, self.columns)

    def batch_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the sizes of the axes that number the matrices."""
        return tuple(shape[axis] for axis in self.batch)

    @property
    def _order(self) -> list[int]:
        return [*self.batch, *self.rows, *self.columns]

    def matrix(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns a tensor as matrices of shape `[*batch, rows, columns]`.

        Args:
          tensor: of static shape; each of its axes is named once here.
        """
        shape, order = tuple(tensor.shape), self._order
        if order != sorted(order):
            tensor = tf.transpose(tensor, order)
        return tf.reshape(tensor, [*self.batch_shape(shape), *self.sizes(shape)])

    def tensor(self, matrix: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        """Returns matrices as the tensor that they were.

        Args:
          matrix: what `matrix` returned, or others of that shape.
          shape: the tensor's shape.
        """
        order = self._order
        tensor = tf.reshape(matrix, [shape[axis] for axis in order])
        if order == sorted(order):
            return tensor
        return tf.transpose(tensor, [order.index(axis) for axis in range(len(order))])


def _product(shape: Sequence[int], axes: Sequence[int]) -> int:
    return math.prod(shape[axis] for axis in axes)


def norm(matrix: tf.Tensor) -> tf.Tensor:
    """Returns the Frobenius norm of each matrix, `[*batch, 1, 1]`.

    It is finite wherever the elements and the norm itself are in the range of the dtype.
    """
    size = largest(matrix)
    return size * _plain_norm(tf.math.divide_no_nan(matrix, size))


def with_norm_of(matrix: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Returns each matrix, multiplied so that it has the norm of another; zeros stay zeros."""
    return matrix * tf.math.divide_no_nan(norm(other), norm(matrix))


def orthogonalized(
    matrix: tf.Tensor,
    coefficients: Sequence[Triple],
    *,
    safety: float = 1.0,
    compute_dtype: tf.DType | None = None,
) -> tf.Tensor:
    """Returns about the nearest matrix with orthonormal rows (or columns, if these are fewer).

    The singular values are made nearly equal by polynomials in products of the matrix with
    itself (Newton-Schulz):

    ```
    X = matrix / (safety * |matrix| + 1e-7)       the norm in the dtype of the matrix
    X <- a X + (b A + c A A) X,  A = X X^T        for each (a, b, c); on the smaller side
    ```

    Args:
      matrix: floating tensor of static shape `[*batch, rows, columns]`, of any size, 0 too.
      coefficients: the triples (a, b, c).
      safety: factor on the norm; a little above 1 keeps singular values within 1 in spite of
        rounding.
      compute_dtype: dtype of the products; by default the matrix' own.

    Returns:
      Tensor of the shape and dtype of `matrix`.
    """
    if matrix.shape.num_elements() == 0:
        return matrix
    # Divided first, so that squares are in range; the small constant is divided too.
    size = largest(matrix)
    x = tf.math.divide_no_nan(matrix, size)
    small = tf.math.divide_no_nan(tf.constant(_EPSILON, matrix.dtype), size)
    x = tf.math.divide_no_nan(x, safety * _plain_norm(x) + small)
    x = tf.cast(x, compute_dtype or matrix.dtype)
    rows, columns = matrix.shape[-2:]
    tall = rows > columns
    for a, b, c in coefficients:
        gram = tf.matmul(x, x, transpose_a=tall, transpose_b=not tall)
        polynomial = b * gram + c * tf.matmul(gram, gram)
        x = a * x + (tf.matmul(x, polynomial) if tall else tf.matmul(polynomial, x))
    return tf.cast(x, matrix.dtype)


def largest(matrix: tf.Tensor) -> tf.Tensor:
    """Returns the largest size of an element of each matrix, `[*batch, 1, 1]`."""
    return tf.reduce_max(tf.abs(matrix), [-2, -1], keepdims=True)


def _plain_norm(matrix: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(matrix), [-2, -1], keepdims=True))
