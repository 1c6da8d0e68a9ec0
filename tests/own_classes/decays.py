"""Weight decay in the class."""

import tensorflow as tf

from tests.own_classes.cases import case, descend, rate_of


@case(learning_rate=0.1, weight_decay=0.25)
def DecayInStep(o):  # noqa: N802
    class DecayInStep(o.SGD):
        """Switches the base's decay off, and adds an L2 term."""

        def _apply_weight_decay(self, variables):
            pass

        def update_step(self, gradient, variable, learning_rate=None):
            descend(self, gradient + self.weight_decay * variable, variable, learning_rate)

    return DecayInStep


@case(learning_rate=0.1, weight_decay=0.25)
def NoDecayOfVectors(o):  # noqa: N802
    class NoDecayOfVectors(o.SGD):
        def _use_weight_decay(self, variable):
            return len(variable.shape) > 1

    return NoDecayOfVectors


@case(learning_rate=0.1, weight_decay=0.25)
def DecayOfSome(o):  # noqa: N802
    class DecayOfSome(o.Adam):
        def _apply_weight_decay(self, variables):
            super()._apply_weight_decay([v for v in variables if len(v.shape) == 1])

    return DecayOfSome


@case(learning_rate=0.1, weight_decay=0.05)
def DecayWithoutRate(o):  # noqa: N802
    class DecayWithoutRate(o.RMSprop):
        """Decay that the learning rate does not scale."""

        def _apply_weight_decay(self, variables):
            for variable in variables:
                variable.assign(variable * (1.0 - self.weight_decay))

    return DecayWithoutRate


def _exclude(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])


@case(learning_rate=0.1, weight_decay=0.25, prepare=_exclude)
def DecayAsExcluded(o):  # noqa: N802
    class DecayAsExcluded(o.SGD):
        """Asks the base which variables decay."""

        def _apply_weight_decay(self, variables):
            pass

        def update_step(self, gradient, variable, learning_rate=None):
            if self._use_weight_decay(variable):
                rate = tf.cast(rate_of(self, learning_rate), variable.dtype)
                variable.assign(variable * (1.0 - rate * self.weight_decay))
            descend(self, gradient, variable, learning_rate)

    return DecayAsExcluded
