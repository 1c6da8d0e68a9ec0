"""Taking gradients in: the sum over replicas, and the choice of the step."""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import tensorflow as tf

from tf_keras_optim.engine import nature
from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.numerics import loops
from tf_keras_optim.engine.seen import class_of
from tf_keras_optim.engine.state import evaluation
from tf_keras_optim.engine.state.saved_state import SavedState
from tf_keras_optim.engine.step import accumulation, ordering, received, second_pass
from tf_keras_optim.engine.step.admission import Admission
from tf_keras_optim.engine.step.gradients import not_wider
from tf_keras_optim.engine.step.planning import Planning
from tf_keras_optim.engine.step.rate import Rate
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.step.scaling import Scaling
from tf_keras_optim.engine.step.step import Step
from tf_keras_optim.engine.step.summing import Summing
from tf_keras_optim.engine.step.user_steps import UserStep
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.update import rows

OF_PACKAGE = "tko_of_package"  # marks the `apply` that no class has overridden


class Overridable(Protocol):
    """The methods of an optimizer that a subclass may override, and that are called."""

    def build(self, variables: Any) -> None:
        """Makes the slots of variables."""

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Updates variables by their gradients."""

    def update_step(self, gradient: Any, variable: Any, *rate: Any) -> None:
        """Updates one variable."""


class Stepper:
    """Takes the steps of an optimizer.

    Args:
      owner: the optimizer.
      context: what its parts share.
      rate: its learning rate.
      scaling: its loss scale.
      state: what may wait for slots.

    Attributes:
      admission: checks what is given, and makes slots.
      planning: says what a step does, and runs its algorithm.
      measures: whether its steps can measure what they do.
    """

    measures = True

    def __init__(
        self,
        owner: Overridable,
        context: Context,
        rate: Rate,
        scaling: Scaling,
        state: SavedState,
    ):
        self._owner = owner
        self._context = context
        self._rate = rate
        self._scaling = scaling
        self._state = state
        self._summing = Summing(context)
        self.admission = Admission(context, lambda variables: owner.build(variables))
        self.planning = Planning(context, scaling, self._update_step)
        own_step = nature.has_own_step(class_of(context.algorithm))
        self._step_class = UserStep if own_step else Step

    def apply_pairs(self, pairs: Iterable[tuple[Any, Any]], aggregate: bool) -> None:
        """Gives pairs of gradient and variable to the optimizer's `apply`, in each replica.

        Args:
          pairs: the pairs.
          aggregate: whether gradients are still to be summed over the replicas.
        """
        columns = list(zip(*pairs))
        gradients, variables = map(list, columns or [(), ()])
        given = received.now(self._owner)
        if not aggregate:
            given = dataclasses.replace(given, aggregate=False)
        step = self._known(gradients, variables, given)
        if step is not None:
            step.run([g if isinstance(g, tf.Tensor) else rows.tensors(g) for g in gradients])
            return
        if variables and distribution.across_replicas():
            self._prepare_for(gradients, variables)

            def replica(values: list[Any], _: list[Any], given: Received) -> None:
                with received.known(self._owner, given):
                    self._owner.apply(values, variables)

            self._summing.in_each_replica(replica, gradients, variables, given)
            return
        with received.known(self._owner, given):
            self._owner.apply(gradients, variables)

    def apply(self, gradients: list[Any], variables: list[Any], given: Received) -> None:
        """Applies gradients.

        Args:
          gradients: tensors, slices, or `None`.
          variables: their variables.
          given: what is known about the gradients.
        """
        if not variables:
            return
        self._prepare_for(gradients, variables)
        gradients = self._of_second_pass(gradients, variables, given)
        if distribution.across_replicas():
            self._summing.in_each_replica(self.apply, gradients, variables, given)
            return
        step = self._step_for(gradients, variables, given)
        self._state.pending.drop_rest()
        gradients = self.admission.learning(gradients, variables)
        tensors = [rows.tensors(gradient) for gradient in gradients if gradient is not None]
        skips = self._scaling.scaler is not None
        summed, bad = self._summing.summed(step.entries, tensors, given, skips)
        sharding = self._context.sharding
        if sharding.is_on:
            sharding.once(step.run, step.entries, summed, bad)
        elif self._summing.updates_here():
            step.run(summed, bad)

    def apply_examined(
        self,
        method: Callable[[list[Any], list[Any]], None],
        gradients: list[Any],
        variables: list[Any],
        given: Received,
    ) -> None:
        """Calls a method with summed, unscaled gradients, if all of them are finite.

        For a method that a subclass overrides: as inside Keras' own LossScaleOptimizer, it
        sees no scale and is not called in a step that is skipped.

        Args:
          method: what leads to `apply`.
          gradients: tensors, slices, or `None`.
          variables: their variables.
          given: what is known about the gradients.
        """
        if self._context.sharding.is_on:
            raise ValueError(
                f"{self._context.title}: `shard_slots`=True is not possible where a class "
                "overrides `apply` or `apply_gradients` inside a LossScaleOptimizer: each "
                "replica calls it under a condition, in which replicas cannot meet. Leave one "
                "of them out."
            )
        self._prepare_for(gradients, variables)
        gradients = self._of_second_pass(gradients, variables, given)
        if distribution.across_replicas():
            examined = functools.partial(self.apply_examined, method)
            self._summing.in_each_replica(examined, gradients, variables, given)
            return
        scaler = self._scaling.scaler
        assert scaler is not None
        entries = self.admission.entries_of(gradients, variables)
        gradients = self.admission.learning(gradients, variables)
        tensors = [rows.tensors(gradient) for gradient in gradients if gradient is not None]
        summed, bad = self._summing.summed(entries, tensors, given, skips=True)
        summed = [not_wider(g, entry.dtype) for entry, g in zip(entries, summed)]
        learned = [(e, _values(g)) for e, g in zip(entries, summed) if not e.overwrite]
        values = [gradient for _, gradient in learned]
        check = scaler.examine(values, given.scaled, measured=False)
        finite = check.finite if bad is None else tf.logical_and(check.finite, ~bad)

        def proceed() -> None:
            unscaled = iter([
                g if e.overwrite or check.inverse is None else rows.times(g, check.inverse)
                for e, g in zip(entries, summed)
            ])  # fmt: skip
            whole = [None if g is None else next(unscaled) for g in gradients]
            known = Received(aggregate=False, scaled=False, examined=True)
            with received.known(self._owner, known):
                method(whole, variables)
            scaler.passed()

        def skip() -> None:
            scaler.skip(values, [entry.path for entry, _ in learned], check.inverse)

        if self._summing.updates_here():
            with ordering.update(summed):
                loops.choose(finite, proceed, skip)

    def _known(
        self, gradients: list[Any], variables: list[Any], given: Received
    ) -> Step | None:
        """Returns the step of an eager call like one before, where it alone has to run.

        That is: all gradients are tensors or slices, there is one replica, nothing waits for
        its slots, there is no second pass, and no class has an `apply` of its own.
        """
        kinds = set(map(type, gradients)) - {tf.IndexedSlices}
        are_tensors = all(map(issubclass, kinds, itertools.repeat(tf.Tensor)))
        own = getattr(type(self._owner).apply, OF_PACKAGE, False)
        waits = self._state.pending.given is not None
        if not (are_tensors and own) or waits or not tf.executing_eagerly():
            return None
        if second_pass.current.get()[0] is self._owner:
            return None
        if distribution.across_replicas():
            return None
        key = self._key(gradients, variables, given)
        found = self._context.traces.lookups.get(key)
        return found[0] if found is not None and found[2] else None

    def _key(self, gradients: list[Any], variables: list[Any], given: Received) -> tuple:
        """Returns what tells an eager call from others."""
        missing = tuple(map(operator.is_, gradients, itertools.repeat(None)))
        watched = distribution.is_watched()
        kind = (distribution.place(), given.scaled, given.examined, watched)
        return tuple(map(id, variables)), missing, kind

    def _of_second_pass(
        self, gradients: list[Any], variables: list[Any], given: Received
    ) -> list[Any]:
        whose, second = second_pass.current.get()
        if whose is not self._owner or given.examined:
            return gradients
        return second.gradients(self._context, gradients, variables, given)

    def _update_step(self, gradient: Any, variable: Any, rate: Any) -> None:
        further = (rate,) if self._context.keras.gives_rate else ()
        self._owner.update_step(gradient, variable, *further)

    def _prepare_for(self, gradients: list[Any], variables: list[Any]) -> None:
        """Makes the slots if there are none, and loads state that waits for them."""
        accumulation.recount(self._context)
        waits = self._state.pending.given is not None
        if not self._context.store.is_built or waits or distribution.across_replicas():
            self.admission.admit(gradients, variables)
        self._state.load_pending(force=True)
        evaluation.resume_before(self._context)

    def _step_for(self, gradients: list[Any], variables: list[Any], given: Received) -> Step:
        """Returns the step of these variables; in eager code always the same one."""
        if not tf.executing_eagerly():
            return self._made(gradients, variables, given)
        traces = self._context.traces
        by_identity = self._key(gradients, variables, given)
        found = traces.lookups.get(by_identity) or traces.lookups.recall(by_identity)
        if found is not None:
            return found[0]
        entries = self.admission.entries_of(gradients, variables)
        absent = self.admission.absent(entries)
        key = (tuple(map(id, entries)), tuple(map(id, absent)), by_identity[2])
        step = traces.steps.recall(key)
        if step is None:
            step = self._step(entries, given, absent)
            traces.steps.keep(key, step)
        reduces = self._context.options.gradient_reducer is not None
        all_move = not self._context.store.frozen
        runs_alone = distribution.number_of_replicas() == 1 and not reduces and all_move
        # Holding the variables keeps their ids valid.
        traces.lookups.keep(by_identity, (step, variables, runs_alone))
        return step

    def _made(self, gradients: list[Any], variables: list[Any], given: Received) -> Step:
        entries = self.admission.entries_of(gradients, variables)
        return self._step(entries, given, self.admission.absent(entries))

    def _step(self, entries: Any, given: Received, absent: Any) -> Step:
        reduced = self._summing.reduced
        parts = (self._context, self._rate, self._scaling, self.planning, reduced)
        return self._step_class(*parts, entries, given, absent)


def _values(gradient: Any) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
