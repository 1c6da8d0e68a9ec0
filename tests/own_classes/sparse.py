"""Branches for `tf.IndexedSlices`."""

import tensorflow as tf

from tests.own_classes.cases import case, descend, rate_of
from tests.own_classes.slots import place_of


@case(learning_rate=0.1, momentum=0.5)
def LazyMomentum(o):  # noqa: N802
    class LazyMomentum(o.SGD):
        def update_step(self, gradient, variable, learning_rate=None):
            m = self.momentums[place_of(self, variable)]
            if not isinstance(gradient, tf.IndexedSlices):
                m.assign(0.5 * m + gradient)
                descend(self, m, variable, learning_rate)
                return
            m = m.value if hasattr(m, "value") and not callable(m.value) else m
            rows = 0.5 * tf.gather(m, gradient.indices) + gradient.values
            rate = tf.cast(rate_of(self, learning_rate), variable.dtype)
            m.scatter_update(tf.IndexedSlices(rows, gradient.indices))
            variable.scatter_sub(tf.IndexedSlices(rate * rows, gradient.indices))

    return LazyMomentum


@case(learning_rate=0.1)
def CountsRows(o):  # noqa: N802
    class CountsRows(o.SGD):
        def update_step(self, gradient, variable, learning_rate=None):
            if isinstance(gradient, tf.IndexedSlices):
                rate = tf.cast(rate_of(self, learning_rate), variable.dtype)
                slices = tf.IndexedSlices(rate * gradient.values, gradient.indices)
                variable.scatter_sub(slices)
            else:
                descend(self, gradient, variable, learning_rate, 0.5)

    return CountsRows


@case(learning_rate=0.1)
def HalvedSlices(o):  # noqa: N802
    class HalvedSlices(o.Adagrad):
        """Slices go through a hook, and into an update of ours."""

        def _clip_gradients(self, grads):
            return [
                tf.IndexedSlices(0.5 * g.values, g.indices, g.dense_shape)
                if isinstance(g, tf.IndexedSlices)
                else 0.5 * g
                for g in grads
            ]

    return HalvedSlices
