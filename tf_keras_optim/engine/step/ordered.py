"""Steps that are taken by the methods of the running Keras' own optimizer, in its order."""

from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.state import evaluation
from tf_keras_optim.engine.step import accumulation, ordering, received
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.step.stepper import Stepper
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.update import rows

_NOT_SHARED = (
    "its class overrides a part of Keras' step, so its steps are taken in Keras' order, which "
    "is not possible where all replicas share the variables, as under CentralStorageStrategy. "
    "Use MirroredStrategy."
)
_NOTHING_OWN = (
    "its class overrides a part of Keras' step, so its steps are taken in Keras' order, in "
    "which variables have no learning rates and no weight decays of their own, and the "
    "algorithm gives one to"
)


class OrderedStepper(Stepper):
    """Takes the steps of an optimizer whose class overrides a part of Keras' step.

    What the class calls on itself is Keras' protocol; here is what stands around it: slots are
    made, gradients are tested for being finite, and numbers go from step to step.
    """

    measures = False

    def apply(self, gradients: list[Any], variables: list[Any], given: Received) -> None:
        """Applies gradients; see the class above."""
        if not variables:
            return
        accumulation.recount(self._context)
        known = any(gradient is not None for gradient in gradients)
        # What a class does where there is no gradient at all is its own affair.
        self.admission.admit(gradients if known else [True] * len(variables), variables)
        self._state.load_pending(force=True)
        self._state.pending.drop_rest()
        if distribution.across_replicas():
            self._summing.in_each_replica(self.apply, gradients, variables, given)
            return
        if distribution.is_shared(self._context.store.iterations):
            raise ValueError(f"{self._context.title}: {_NOT_SHARED}")
        scaler = self._scaling.scaler
        if scaler is not None and scaler.active and not given.examined:
            self.apply_examined(self._step_of_keras, gradients, variables, given)
            return
        with received.known(self._owner, given):
            self._step_of_keras(gradients, variables)

    def _step_of_keras(self, gradients: list[Any], variables: list[Any]) -> None:
        if not tf.executing_eagerly():
            self._context.traces.in_graph = True
        for entry in self._context.store.tracked:
            own = self.planning.own(entry)
            decay = getattr(self._context.options, own.decay_name)
            if own.rate_factor != 1.0 or decay != self._context.options.weight_decay:
                raise ValueError(f"{self._context.title}: {_NOTHING_OWN} {entry.path!r}.")
        for gradient, variable in zip(gradients, variables):
            self.planning.check_sparse(self.admission.entry_of(variable), gradient)
        tensors = [None if g is None else rows.tensors(g) for g in gradients]
        carried = self._carried()
        with ordering.update([tensor for tensor in tensors if tensor is not None]):
            evaluation.resume(self._context)
            self.take(tensors, variables)
            for variable, value in carried:
                variable.assign(value)

    def take(self, gradients: list[Any], variables: list[Any]) -> None:
        """Takes one step by the methods of the optimizer."""
        raise NotImplementedError

    def _carried(self) -> list[tuple[tf.Variable, tf.Tensor]]:
        """Returns numbers that go from step to step, with their values after this one."""
        context: Context = self._context
        store, steps = context.store, context.store.counted_by
        if not store.step_slots:
            return []
        updates = context.counter.updates()
        rate = self._rate.at(updates)
        widest = max((entry.dtype for entry in store.tracked), key=lambda dtype: dtype.size)
        kinds: list[tuple[Any, Any]] = [(None, store.step_slots)]
        kinds += [(e, e.carried) for e in store.tracked if e.begun is not None]
        found = []
        for first, carried in kinds:
            scalars = self.planning.scalars(widest, rate, updates, None, first)
            for name, variable in carried.items():
                own = distribution.local(variable)
                value = tf.cast(scalars[name], own.dtype)
                if steps > 1:
                    calls = distribution.local(store.iterations).read_value() + 1
                    value = tf.where(tf.equal(calls % steps, 0), value, own.read_value())
                found.append((own, value))
        return found
