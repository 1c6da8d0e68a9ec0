"""Slots in 8 bits: a code for each element and a scale for each block of elements.

The code is a dynamic tree (Dettmers et al., "8-bit Optimizers via Block-wise Quantization",
ICLR 2022): the place of its leading bit is an exponent, the bits after it a linear fraction,
so that large values have many digits and small ones a few. With `n = |code| + 1`, `p` the
largest power of two that is at most `n`, and base `b`,

    value = scale * p^(log2(b) - 1) * ((b - 1) * n - (b - 2) * p) / N^log2(b)

where `N` is the largest `n`; code 0 is 0. This joins the points `(2^i, b^i)` by lines.
Every value without its scale is exact in float32. Signed slots (int8) have base 8 and reach
from the largest of a block down to 3.8e-6 of it; slots that are never negative (uint8), which
are squares, have base 16 and reach down to 3.7e-9.
"""

import math

import tensorflow as tf

from tf_keras_optim.engine.numerics import precision

CODES = {"signed": tf.int8, "unsigned": tf.uint8}
MINIMUM_SIZE = 4096
SMALLEST_SQUARE = (64, 64)  # with that many elements
_BLOCK, _SHORTEST_BLOCK, _VECTOR = 256, 128, 32
_FUSED = 32
_BITS_OF_BASE = {tf.int8: 3, tf.uint8: 4}
_LARGEST = {tf.int8: 128, tf.uint8: 256}  # largest |code|, plus one
_SMALLEST_NORMAL = 2.0**-126


def applies(shape: tuple[int, ...]) -> bool:
    """Says whether a slot of a shape is kept in 8 bits: a matrix or more, and not small."""
    return len(shape) >= 2 and math.prod(shape) >= MINIMUM_SIZE


def block_length(size: int) -> int:
    """Returns how many consecutive elements share a scale.

    256, or a divisor of the size from 128 on, so that no block is partial: the largest one
    that suits vector units, else the largest one. Where there is none, 256 with a partial
    last block, which takes longer.
    """
    lengths = range(_BLOCK, _SHORTEST_BLOCK - 1, -1)
    divisors = [length for length in lengths if size % length == 0]
    return next((n for n in divisors if n % _VECTOR == 0), (*divisors, _BLOCK)[0])


def number_of_blocks(size: int) -> int:
    """Returns how many scales a slot of a size has."""
    return -(-size // block_length(size))


def encoded(
    value: tf.Tensor, dtype: tf.DType, seed: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rounds to codes.

    Only 0 becomes 0 in a slot that is never negative: what is smaller than the smallest
    code takes that one. Otherwise a second moment could vanish before the first does, and
    the step would be a first moment divided by epsilon.

    Args:
      value: floating tensor of any static shape; not negative where `dtype` is uint8.
      dtype: int8 or uint8.
      seed: int32 tensor of shape [2]; each element then takes one of the two codes around
        it, by chance, with its value as the expectation. `None` rounds to the nearest.
        A decay of 0.1 % a step is less than half the distance of codes: to the nearest,
        a slowly moving mean stands still.

    Returns:
      codes: tensor of `dtype` and the shape of `value`.
      scales: float32 tensor [blocks]: the largest absolute value of each block; not
        finite where an element of the block is not.
    """
    bits, largest = _BITS_OF_BASE[dtype], _LARGEST[dtype]
    base, top = float(2**bits), float(largest**bits)
    blocks = _to_blocks(tf.cast(value, tf.float32))
    patterns = tf.bitwise.bitwise_and(tf.bitcast(blocks, tf.int32), 0x7FFFFFFF)
    sizes = tf.bitcast(patterns, tf.float32)
    scales = tf.bitcast(_largest(patterns), tf.float32)
    # The inverse of a large scale is too small a number, `top` times that of a small one too
    # large a number.
    share = tf.where(scales > 1.0, top, 1.0)
    inverse = tf.where(scales >= _SMALLEST_NORMAL, share / scales, 0.0)
    raw = sizes * inverse[:, tf.newaxis] * (top / share)[:, tf.newaxis]
    within = tf.clip_by_value(raw, base, top)
    power = _power_of_two(within, bits)
    lower = power * power if bits == 3 else power * power * power
    chance = 0.5 if seed is None else _uniform(blocks, seed)
    n = tf.floor((within / lower + (base - 2.0) * power) / (base - 1.0) + chance)
    is_smallest = raw / base + chance >= 1.0 if dtype == tf.int8 else sizes > 0.0
    codes = tf.where(raw < base, tf.cast(is_smallest, tf.float32), n - 1.0)
    if dtype == tf.int8:
        codes = tf.where(blocks < 0.0, -codes, codes)
    return _from_blocks(tf.cast(codes, dtype), value.shape), scales


def decoded(codes: tf.Tensor, scales: tf.Tensor) -> tf.Tensor:
    """Returns the float32 values of what `encoded` returned.

    Args:
      codes: int8 or uint8 tensor of any static shape.
      scales: float32 tensor [blocks].
    """
    bits, largest = _BITS_OF_BASE[codes.dtype], _LARGEST[codes.dtype]
    base = float(2**bits)
    signed = tf.cast(_to_blocks(codes), tf.float32)
    n = tf.abs(signed) + 1.0
    power = tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(n, tf.int32), 0x7F800000), tf.float32)
    lower = power * power if bits == 3 else power * power * power
    values = lower * ((base - 1.0) * n - (base - 2.0) * power) / float(largest**bits)
    values = tf.where(n > 1.0, values, 0.0)
    values = tf.where(signed < 0.0, -values, values)
    return _from_blocks(values * scales[:, tf.newaxis], codes.shape)


def _largest(patterns: tf.Tensor) -> tf.Tensor:
    """Returns the largest of each row of sizes, given by their bits as integers.

    As integers they have the same order, and NaN, which XLA's maximum of floats drops,
    comes last. XLA on CPUs writes what is reduced to memory unless at most 32 elements
    are reduced at once, and it joins two maxima in a row; a minimum of complements it
    leaves alone.
    """
    length = patterns.shape[1]
    width = max(n for n in range(1, _FUSED + 1) if length % n == 0)
    found = tf.reduce_max(tf.reshape(patterns, [-1, length // width, width]), axis=2)
    return tf.bitwise.invert(tf.reduce_min(tf.bitwise.invert(found), axis=1))


def _power_of_two(value: tf.Tensor, bits: int) -> tf.Tensor:
    """Returns the largest power of two whose `bits`-th power is at most the value."""
    exponent = tf.bitwise.right_shift(tf.bitcast(value, tf.int32), 23) - 127
    # A third or a quarter of a small integer, rounded down; floats are what vectorizes.
    root = tf.cast(tf.cast(exponent, tf.float32) * (1.0 / bits) + 0.01, tf.int32)
    return tf.bitcast(tf.bitwise.left_shift(root + 127, 23), tf.float32)


def _uniform(like: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns numbers in [0, 1), as many as another tensor has."""
    high = tf.bitwise.right_shift(precision.random_bits(like, seed), 8)
    return tf.cast(tf.bitcast(high, tf.int32), tf.float32) * 2.0**-24


def _to_blocks(values: tf.Tensor) -> tf.Tensor:
    """Returns the elements as [blocks, length], the last block filled up with zeros."""
    size = values.shape.num_elements()
    length = block_length(size)
    values = tf.reshape(values, [-1])
    if size % length:
        values = tf.pad(values, [[0, -size % length]])
    return tf.reshape(values, [-1, length])


def _from_blocks(blocks: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Undoes `_to_blocks`."""
    flat, size = tf.reshape(blocks, [-1]), shape.num_elements()
    return tf.reshape(flat if flat.shape[0] == size else flat[:size], shape)
