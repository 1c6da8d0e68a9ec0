"""Narrow dtypes: rounding without a bias, and master copies of weights."""

import tensorflow as tf

_DROPPED_BITS = {tf.bfloat16: 16, tf.float16: 13}  # of float32's 23 mantissa bits
_FLOAT16_SMALLEST_NORMAL = 2.0**-14
_FLOAT16_SUBNORMAL_GAP = 2.0**-24


def stored(value: tf.Tensor, dtype: tf.DType, seed: tf.Tensor | None) -> tf.Tensor:
    """Converts a value to the dtype it is kept in.

    Args:
      value: float32 or float64 tensor.
      dtype: where it goes.
      seed: int32 tensor of shape [2]; the result is then one of the two neighbours in
        `dtype`, by chance, with the value as its expectation. `None` rounds to the
        nearest. Without effect where nothing is lost. What is larger than the largest
        finite number has no neighbour above and is rounded to the nearest.

    Returns:
      Tensor of `dtype`.
    """
    if seed is None or dtype not in _DROPPED_BITS:
        return tf.cast(value, dtype)
    value = tf.cast(value, tf.float32)
    bits = _DROPPED_BITS[dtype]
    random = tf.bitcast(random_bits(value, seed), tf.int32)
    low = tf.bitwise.bitwise_and(random, (1 << bits) - 1)
    # Adding to the bits adds to the size, whatever the sign; what is cut off is then lost
    # with just the probability that makes up for it.
    raised = tf.bitcast(value, tf.int32) + low
    cut = tf.bitcast(tf.bitwise.bitwise_and(raised, -(1 << bits)), tf.float32)
    if dtype == tf.float16:
        chance = tf.cast(low, tf.float32) / float(1 << bits)
        gap = tf.constant(_FLOAT16_SUBNORMAL_GAP)
        small = tf.floor(value / gap + chance) * gap
        cut = tf.where(tf.abs(value) < _FLOAT16_SMALLEST_NORMAL, small, cut)
    within = tf.abs(value) <= float(dtype.max)  # not where it is NaN
    return tf.cast(tf.where(within, cut, value), dtype)


def random_bits(like: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns a number for each element, from its place and a seed.

    A hash of the places. XLA computes it in passing, while TensorFlow's
    generators fill a tensor, which takes twenty times as long as the rest of an update.

    Args:
      like: tensor whose shape the result has.
      seed: int32 tensor of shape [2].

    Returns:
      uint32 tensor.
    """
    size = like.shape.num_elements()
    key = tf.random.stateless_uniform([], seed, minval=None, maxval=None, dtype=tf.int32)
    bits = tf.bitcast(tf.range(tf.size(like) if size is None else size) + key, tf.uint32)
    return tf.reshape(mixed(bits), tf.shape(like) if size is None else like.shape)


def mixed(bits: tf.Tensor) -> tf.Tensor:
    """Returns the finalizer of MurmurHash3 of each element of a uint32 tensor."""
    bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, 16))
    for factor, shift in ((0x85EBCA6B, 13), (0xC2B2AE35, 16)):
        bits *= tf.constant(factor, tf.uint32)
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, shift))
    return bits


def seed_of(rounding: tf.Tensor | None, number: int) -> tf.Tensor | None:
    """Returns the seed of the n-th tensor that one update rounds; `None` for none.

    Args:
      rounding: int32 tensor of shape [2]: the variable's seed and the update's number.
      number: which tensor it is.
    """
    if rounding is None:
        return None
    return rounding + tf.constant([number * 7919, 0], tf.int32)


def widest(value: tf.Tensor, master: tf.Tensor | None, dtype: tf.DType) -> tf.Tensor:
    """Returns a variable's value with all the digits that are known.

    The master copy counts where it rounds to the variable's value. Where it does not,
    someone else has set the variable (loaded weights, a constraint), and that counts.

    Args:
      value: the variable's value, of any floating dtype.
      master: its master copy, or `None`.
      dtype: dtype of the result.
    """
    if master is None:
        return tf.cast(value, dtype)
    same = rounds_to(master, value)
    return tf.where(same, tf.cast(master, dtype), tf.cast(value, dtype))


def rounds_to(master: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Says for each element whether a master copy rounds to a narrow variable's value."""
    # Bits, as some releases of XLA compare narrow floats without rounding them first.
    rounded = tf.cast(master, value.dtype)
    return tf.equal(tf.bitcast(rounded, tf.uint16), tf.bitcast(value, tf.uint16))
