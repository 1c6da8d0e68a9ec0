"""Classes that hand gradients to another optimizer."""

from tests.own_classes.cases import case


@case(kerases=(3,), options=False, learning_rate=0.1)
def ByApply(o):  # noqa: N802
    class ByApply(o.Optimizer):
        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate=learning_rate, **kwargs)
            self.inner = o.Adam(learning_rate)

        def build(self, variables):
            super().build(variables)
            self.inner.build(variables)

        def apply(self, grads, trainable_variables=None):
            self.inner.apply([0.5 * g for g in grads], trainable_variables)
            self._iterations.assign_add(1)

    return ByApply


@case(options=False, learning_rate=0.1)
def ByApplyGradients(o):  # noqa: N802
    class ByApplyGradients(o.Optimizer):
        def __init__(self, learning_rate=0.1, name="ByApplyGradients", **kwargs):
            super().__init__(name=name, **rate_if_needed(o, learning_rate))
            self.inner = o.Adam(learning_rate)
            self.given = learning_rate

        def build(self, variables):
            super().build(variables)
            self.inner.build(variables)

        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            halves = [(0.5 * g, v) for g, v in grads_and_vars]
            return self.inner.apply_gradients(halves, *args, **kwargs)

        def update_step(self, gradient, variable, *rate):
            raise AssertionError("it is never called")

        def get_config(self):
            return {"name": self.name, "learning_rate": self.given}

    return ByApplyGradients


def rate_if_needed(o, learning_rate):
    """Returns the rate for a base class that takes one."""
    takes = "tf_keras.src" not in o.SGD.__module__
    return {"learning_rate": learning_rate} if takes else {}


@case(options=False, kerases=(3,), learning_rate=0.1)
def ByRateProperty(o):  # noqa: N802
    class ByRateProperty(o.Optimizer):
        """Shows the inner optimizer's rate, and gives it each variable."""

        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate=learning_rate, **kwargs)
            self.inner = o.SGD(learning_rate)

        @property
        def learning_rate(self):
            return self.inner.learning_rate

        @learning_rate.setter
        def learning_rate(self, value):
            self.inner.learning_rate = value

        def build(self, variables):
            super().build(variables)
            self.inner.build(variables)

        def update_step(self, gradient, variable, learning_rate):
            self.inner.update_step(0.5 * gradient, variable, learning_rate)

    return ByRateProperty


@case(learning_rate=0.1)
def EverySecondStep(o):  # noqa: N802
    class EverySecondStep(o.SGD):
        """Applies every second gradient, twice, as a counter in Python says."""

        calls = 0

        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            self.calls += 1
            pairs = [(g * (2.0 * (self.calls % 2 == 0)), v) for g, v in grads_and_vars]
            return super().apply_gradients(pairs, *args, **kwargs)

    return EverySecondStep


@case(learning_rate=0.1)
def NormalizedPairs(o):  # noqa: N802
    class NormalizedPairs(o.RMSprop):
        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            import tensorflow as tf

            pairs = list(grads_and_vars)
            norm = tf.linalg.global_norm([g for g, _ in pairs])
            return super().apply_gradients([(g / norm, v) for g, v in pairs], *args, **kwargs)

    return NormalizedPairs
