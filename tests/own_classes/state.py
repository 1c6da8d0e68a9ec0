"""Attributes, counters and variables that a class keeps."""

import numpy as np
import tensorflow as tf

from tests.own_classes.cases import case, descend, rate_of

keras = tf.keras


@case(learning_rate=0.1)
def CountsInPython(o):  # noqa: N802
    class CountsInPython(o.SGD):
        count = 0

        def update_step(self, gradient, variable, learning_rate=None):
            self.count += 1
            descend(self, gradient, variable, learning_rate, float(self.count > 3))

    return CountsInPython


@case(learning_rate=0.1)
def KeepsAnAttribute(o):  # noqa: N802
    class KeepsAnAttribute(o.SGD):
        """What `apply_gradients` left, its step reads."""

        factor = 1.0

        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            self.factor = self.factor * 0.5
            return super().apply_gradients(grads_and_vars, *args, **kwargs)

        def update_step(self, gradient, variable, learning_rate=None):
            descend(self, gradient, variable, learning_rate, self.factor)

    return KeepsAnAttribute


@case(learning_rate=0.1)
def BranchesOnIterations(o):  # noqa: N802
    class BranchesOnIterations(o.SGD):
        def update_step(self, gradient, variable, learning_rate=None):
            if self.iterations < 2:
                descend(self, gradient, variable, learning_rate)

    return BranchesOnIterations


@case(learning_rate=0.1)
def UsesNumpy(o):  # noqa: N802
    class UsesNumpy(o.SGD):
        def update_step(self, gradient, variable, learning_rate=None):
            factor = 1.0 / (1.0 + float(np.linalg.norm(gradient)))
            descend(self, gradient, variable, learning_rate, factor)

    return UsesNumpy


@case(learning_rate=0.1)
def OwnLr(o):  # noqa: N802
    class OwnLr(o.SGD):
        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate, **kwargs)
            if not hasattr(type(self), "lr"):
                self.lr = 7.0

        def update_step(self, gradient, variable, learning_rate=None):
            descend(self, gradient, variable, learning_rate)

    return OwnLr


@case(kerases=(3,), learning_rate=0.1)
def SetsLr(o):  # noqa: N802
    class SetsLr(o.SGD):
        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.lr = 7.0

        def update_step(self, gradient, variable, learning_rate):
            descend(self, gradient, variable, learning_rate, self.lr / 7.0)

    return SetsLr


@case(kerases=(3,), learning_rate=0.1)
def VariableAttributes(o):  # noqa: N802
    class VariableAttributes(o.SGD):
        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self.scale = keras.Variable(1.0, trainable=False)

        def update_step(self, gradient, variable, learning_rate):
            self.scale.assign(self.scale * 0.75)
            descend(self, gradient, variable, learning_rate, self.scale.value)

    return VariableAttributes


@case(kerases=(3,), learning_rate=0.1)
def VariablesInAList(o):  # noqa: N802
    class VariablesInAList(o.SGD):
        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.means = []
            for variable in variables:
                self.means.append(keras.Variable(tf.zeros(variable.shape), trainable=False))

        def update_step(self, gradient, variable, learning_rate):
            mean = self.means[self._get_variable_index(variable)]
            mean.assign(0.5 * mean + gradient)
            descend(self, mean.value, variable, learning_rate)

    return VariablesInAList


@case(kerases=(3,), learning_rate=0.1)
def TracksVariables(o):  # noqa: N802
    class TracksVariables(o.SGD):
        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.means = [tf.Variable(tf.zeros(v.shape), trainable=False) for v in variables]
            for mean in self.means:
                self._track_variable(mean)

        def update_step(self, gradient, variable, learning_rate):
            mean = self.means[self._trainable_variables_indices[self._var_key(variable)]]
            mean.assign(0.5 * mean + gradient)
            descend(self, mean, variable, learning_rate)

    return TracksVariables


@case(learning_rate=0.1)
def AppendsAVariable(o):  # noqa: N802
    class AppendsAVariable(o.SGD):
        def build(self, variables):
            super().build(variables)
            if hasattr(self, "power"):
                return
            self.power = tf.Variable(1.0, trainable=False)
            self._variables.append(self.power)

        def update_step(self, gradient, variable, learning_rate=None):
            self.power.assign(self.power * 0.75)
            descend(self, gradient, variable, learning_rate, self.power)

    return AppendsAVariable


@case(kerases=(3,), learning_rate=0.1)
def AsksForVariables(o):  # noqa: N802
    class AsksForVariables(o.Optimizer):
        """As Keras 3 documents it."""

        def __init__(self, learning_rate=0.1, momentum=0.5, **kwargs):
            super().__init__(learning_rate=learning_rate, **kwargs)
            self.momentum = momentum

        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.momentums = self.add_optimizer_variables(variables, "momentum")
            self.product = self.add_variable((), initializer="ones", name="product")

        def update_step(self, gradient, variable, learning_rate):
            m = self.momentums[self._get_variable_index(variable)]
            self.assign(m, m * self.momentum + gradient)
            self.assign(self.product, self.product * 0.75)
            self.assign_sub(variable, learning_rate * m * (1.0 - self.product))

        def get_config(self):
            return super().get_config() | {"momentum": self.momentum}

    return AsksForVariables


@case(learning_rate=0.1)
def SlowWeights(o):  # noqa: N802
    class SlowWeights(o.SGD):
        """Every second update goes half the way back to where the last one began."""

        def build(self, variables):
            super().build(variables)
            if not hasattr(self, "slow"):
                self.slow = [tf.Variable(v, trainable=False) for v in variables]
                self.places = {tuple(v.shape): place for place, v in enumerate(variables)}

        def update_step(self, gradient, variable, learning_rate=None):
            slow = self.slow[self.places[tuple(variable.shape)]]
            rate = tf.cast(rate_of(self, learning_rate), variable.dtype)
            fast = variable - rate * gradient
            due = tf.equal((self.iterations + 1) % 2, 0)
            slow.assign(tf.where(due, 0.5 * (slow + fast), slow))
            variable.assign(tf.where(due, slow, fast))

    return SlowWeights
