"""Normal random numbers from a seed and each element's place, alike in every regime.

XLA and TensorFlow make other normal numbers of one seed, and on CPUs XLA takes fifty times as
long for them as for these, and long to compile any of TensorFlow's generators.
"""

import math

import tensorflow as tf

from tf_keras_optim.engine.numerics import precision

_BITS = 24  # all that float32 holds exactly
_KEYS = (0x9E3779B9, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A)  # any four numbers


def normal(like: tf.Tensor, seed: tf.Tensor, own: int = 0) -> tf.Tensor:
    """Returns numbers of the standard normal distribution, independent of one another.

    By Box and Muller from two hashes of each place, each with two keys of 32 bits; none is
    farther than 5.9 from 0.

    Args:
      like: tensor whose shape and floating dtype the result has.
      seed: int32 tensor of shape [2]; equal seeds make equal numbers.
      own: integer of at least 0 that makes other numbers of the same seed.
    """
    one, two = (tf.bitcast(part, tf.uint32) for part in tf.unstack(seed))
    keys = precision.mixed(tf.bitwise.bitwise_xor(tf.constant(_KEYS, tf.uint32), one))
    keys = precision.mixed(tf.bitwise.bitwise_xor(keys, tf.constant(own, tf.uint32)))
    keys = precision.mixed(tf.bitwise.bitwise_xor(keys, two))
    size = like.shape.num_elements()
    places = tf.bitcast(tf.range(tf.size(like) if size is None else size), tf.uint32)
    first, second = (_hashed(places, keys[i], keys[i + 1], like.dtype) for i in (0, 2))
    length = tf.sqrt(-2.0 * tf.math.log((first + 0.5) * 2.0**-_BITS))
    found = length * tf.cos(second * (2.0 * math.pi * 2.0**-_BITS))
    return tf.reshape(found, tf.shape(like) if size is None else like.shape)


def _hashed(places: tf.Tensor, one: tf.Tensor, two: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns whole numbers from 0 up to 2^24, which is left out."""
    bits = precision.mixed(tf.bitwise.bitwise_xor(places, one))
    bits = precision.mixed(tf.bitwise.bitwise_xor(bits, two))
    cut = tf.bitwise.right_shift(bits, tf.constant(32 - _BITS, tf.uint32))
    return tf.cast(tf.bitcast(cut, tf.int32), dtype)
