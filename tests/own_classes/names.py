"""Members that are called as an option or a hook of ours, of which Keras has none."""

from typing import Any

import tensorflow as tf

from tests.own_classes.cases import case, descend


@case(learning_rate=0.1, kerases=(2,), gradient_accumulation_steps=2)
def OwnAccumulation(o):  # noqa: N802
    class OwnAccumulation(o.SGD):
        """As wrappers for privacy are made: every second step moves by the sum so far."""

        def __init__(self, gradient_accumulation_steps=1, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.gradient_accumulation_steps = gradient_accumulation_steps

        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            share = 1.0 / self.gradient_accumulation_steps
            pairs = [(share * g, v) for g, v in grads_and_vars]
            return super().apply_gradients(pairs, *args, **kwargs)

        def get_config(self):
            steps = self.gradient_accumulation_steps
            return super().get_config() | {"gradient_accumulation_steps": steps}

    return OwnAccumulation


@case(learning_rate=0.1, sparse=0.75)
def OwnOptions(o):  # noqa: N802
    class OwnOptions(o.Adam):
        """A parameter, an annotation, a method, and an attribute of the class."""

        skip_nonfinite: Any
        rounding_seed = 0.5

        def __init__(self, learning_rate=0.1, sparse=None, **kwargs):
            super().__init__(learning_rate=learning_rate, **kwargs)
            self.sparse = sparse
            self.skip_nonfinite = 0.5

        def slot_dtype(self):
            return self.rounding_seed * self.skip_nonfinite

        def update_step(self, gradient, variable, learning_rate=None):
            factor = self.sparse * self.slot_dtype()
            descend(self, gradient, variable, learning_rate, factor)

        def get_config(self):
            return super().get_config() | {"sparse": self.sparse}

    return OwnOptions


@case(learning_rate=0.1)
def OwnHooks(o):  # noqa: N802
    class OwnHooks(o.Nadam):
        """Attributes and methods with meanings of their own."""

        conclude = 0.5
        slot_meanings = None

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.slots = {}
            self.step_slots = 0.5
            self.trace_count = 0

        def build(self, variables):
            super().build(variables)
            self.slots = {tuple(v.shape): 0.5 for v in variables}

        def prepare(self, gradient):
            return gradient * self.step_slots

        def measure(self):
            return self.conclude

        def update_step(self, gradient, variable, learning_rate=None):
            factor = self.measure() * self.slots[tuple(variable.shape)]
            descend(self, self.prepare(gradient), variable, learning_rate, factor)

    return OwnHooks


@case(kerases=(3,), options=False, learning_rate=0.1)
def OwnHooksAround(o):  # noqa: N802
    class OwnHooksAround(o.Optimizer):
        """Around another optimizer; nothing of it is an algorithm."""

        def __init__(self, learning_rate=0.1, **kwargs):
            super().__init__(learning_rate=learning_rate, **kwargs)
            self.inner = o.SGD(learning_rate)
            self.update_in_place = True

        def slots(self, variables):
            return [tf.zeros(v.shape) for v in variables]

        def build(self, variables):
            super().build(variables)
            self.inner.build(variables)

        def apply(self, grads, trainable_variables=None):
            added = self.slots(trainable_variables)
            self.inner.apply([g + a for g, a in zip(grads, added)], trainable_variables)
            self._iterations.assign_add(1)

    return OwnHooksAround
