"""Steps in every way that a user can take them, on small variables."""

import numpy as np
import tensorflow as tf


def in_regime(step, regime):
    """A step as it is ("eager"), as a function ("function"), or as a compiled one ("xla")."""
    if regime == "eager":
        return step
    return tf.function(step, jit_compile=regime == "xla", autograph=False)


def traced_or_not(step, traced):
    """A step as a function, or as it is."""
    return in_regime(step, "function" if traced else "eager")


def variables(*names, size=2):
    """Vectors that begin with 1 and 2."""
    return [tf.Variable(np.arange(1.0, 1.0 + size, dtype="f"), name=name) for name in names]


def train(optimizer, chosen, steps=2):
    """Takes some steps, each with gradients of its own."""
    for step in range(steps):
        for_each = [
            tf.constant(np.cos(np.arange(v.shape[0]) + step), tf.float32) for v in chosen
        ]
        optimizer.apply_gradients(zip(for_each, chosen))


def trained(optimizer, *names, steps=2):
    """Makes vectors, and takes steps with them."""
    chosen = variables(*names)
    optimizer.build(chosen)
    train(optimizer, chosen, steps)
    return chosen
