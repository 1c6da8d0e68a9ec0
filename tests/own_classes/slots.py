"""Subclasses of concrete optimizers with their own `update_step`."""

import tensorflow as tf

from tests.own_classes.cases import case, descend, rate_of


def place_of(optimizer, variable):
    """Returns a variable's place, as each Keras tells it."""
    if hasattr(optimizer, "_index_dict"):
        return optimizer._index_dict[optimizer._var_key(variable)]
    return optimizer._get_variable_index(variable)


@case(learning_rate=0.1)
def ByMoments(o):  # noqa: N802
    class ByMoments(o.Adam):
        def update_step(self, gradient, variable, learning_rate=None):
            place = place_of(self, variable)
            m, v = self._momentums[place], self._velocities[place]
            m.assign(self.beta_1 * m + (1.0 - self.beta_1) * gradient)
            v.assign(self.beta_2 * v + (1.0 - self.beta_2) * gradient**2)
            descend(self, m / (tf.sqrt(v) + 0.1), variable, learning_rate)

    return ByMoments


@case(learning_rate=0.1, amsgrad=True)
def ByLargest(o):  # noqa: N802
    class ByLargest(o.Adam):
        def update_step(self, gradient, variable, learning_rate=None):
            largest = self._velocity_hats[place_of(self, variable)]
            largest.assign(tf.maximum(largest, gradient**2))
            descend(self, gradient / (tf.sqrt(largest) + 0.1), variable, learning_rate)

    return ByLargest


@case(learning_rate=0.1, momentum=0.5)
def ByMomentums(o):  # noqa: N802
    class ByMomentums(o.SGD):
        def update_step(self, gradient, variable, learning_rate=None):
            m = self.momentums[place_of(self, variable)]
            m.assign(self.momentum * m + gradient)
            descend(self, tf.sign(m), variable, learning_rate)

    return ByMomentums


@case(learning_rate=0.1)
def ByAccumulators(o):  # noqa: N802
    class ByAccumulators(o.Adagrad):
        def update_step(self, gradient, variable, learning_rate=None):
            total = self._accumulators[place_of(self, variable)]
            total.assign_add(tf.abs(gradient))
            descend(self, gradient / (total + 0.1), variable, learning_rate)

    return ByAccumulators


@case(learning_rate=0.1)
def ByNorms(o):  # noqa: N802
    class ByNorms(o.Adamax):
        def update_step(self, gradient, variable, learning_rate=None):
            place = place_of(self, variable)
            m, u = self._m[place], self._u[place]
            m.assign(0.5 * m + gradient)
            u.assign(tf.maximum(u, tf.abs(gradient)))
            descend(self, m / (u + 0.1), variable, learning_rate)

    return ByNorms


@case(learning_rate=0.1)
def AfterAdam(o):  # noqa: N802
    class AfterAdam(o.Adam):
        """Calls the update of the class above."""

        def update_step(self, gradient, variable, *rate):
            super().update_step(tf.tanh(gradient), variable, *rate)

    return AfterAdam


@case(learning_rate=0.1, weight_decay=0.1)
def TwiceAdamW(o):  # noqa: N802
    class TwiceAdamW(o.AdamW):
        def update_step(self, gradient, variable, learning_rate=None):
            rate = tf.cast(rate_of(self, learning_rate), variable.dtype)
            m = self._momentums[place_of(self, variable)]
            m.assign(0.9 * m + 0.1 * gradient)
            variable.assign_sub(rate * tf.sign(m))

    return TwiceAdamW
