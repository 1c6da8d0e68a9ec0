"""Taking gradients in: checks, the sum over replicas, and the choice of the step."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from tf_keras_optim.engine import accumulation, distribution, loops, ordering, received, rows
from tf_keras_optim.engine.gradients import not_wider
from tf_keras_optim.engine.guard import not_finite
from tf_keras_optim.engine.rates import Rates
from tf_keras_optim.engine.received import Received
from tf_keras_optim.engine.step import Step
from tf_keras_optim.engine.store import Tracked, compute_dtype, path_of


class Applying(Rates):
    """The part of an optimizer that gradients are given to."""

    _step_class: ClassVar[type[Step]] = Step

    @tf.autograph.experimental.do_not_convert
    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
    ) -> Any:
        """Updates variables by their gradients; counts one iteration.

        Args:
          grads_and_vars: pairs of a gradient (tensor, `tf.IndexedSlices` or `None`)
            and its variable. In a replica the gradients are summed over replicas. Called
            across replicas, values per replica (as `strategy.run` returns them) are
            summed, plain tensors are taken as sums.
          name: ignored; there for the older Keras signature.
          skip_gradients_aggregation: the gradients are summed over replicas already.

        Returns:
          The variable `iterations`.

        Raises:
          ValueError: no gradient at all, an unknown variable, a variable given
            twice, or a gradient of the wrong shape or dtype. Nothing is changed.
        """
        self._apply_pairs(grads_and_vars, not skip_gradients_aggregation)
        return self._public[id(self._store.iterations)]

    @tf.autograph.experimental.do_not_convert
    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Updates variables by their gradients, given as two lists.

        `apply_gradients`, and so `minimize` and `fit`, calls it, as in Keras 3: what a
        subclass makes of it acts in all of them.

        Args:
          grads: gradients.
          trainable_variables: their variables; those of `build` by default.
        """
        variables = self._variables_for(grads, trainable_variables)
        self._apply(list(grads), variables, received.now(self))

    def _apply_pairs(self, grads_and_vars: Iterable[tuple[Any, Any]], aggregate: bool) -> None:
        """Gives pairs to `apply`, in each replica."""
        pairs = list(grads_and_vars)
        gradients, variables = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        given = received.now(self)
        if not aggregate:
            given = dataclasses.replace(given, aggregate=False)
        if variables and distribution.across_replicas():
            self._prepare_for(gradients, variables)

            def replica(values: list[Any], _: list[Any], given: Received) -> None:
                with received.known(self, given):
                    self.apply(values, variables)

            self._in_each_replica(replica, gradients, variables, given)
            return
        with received.known(self, given):
            self.apply(gradients, variables)

    def _variables_for(self, grads: Sequence[Any], trainable_variables: Any) -> list[Any]:
        """Returns the variables of gradients: those given, or those of `build`."""
        if trainable_variables is not None:
            variables = list(trainable_variables)
            if len(grads) != len(variables):
                raise ValueError(
                    f"{self._title()} got {len(grads)} gradients for {len(variables)} "
                    "variables. Give one gradient for each; `None` where there is none."
                )
            return variables
        variables = self._store.given
        if len(grads) != len(variables):
            raise ValueError(
                f"{self._title()} got {len(grads)} gradients without variables, but was "
                f"built with {len(variables)} variables. Give one gradient for each, or "
                "pass `trainable_variables`."
            )
        return variables

    def _apply(self, gradients: list[Any], variables: list[Any], given: Received) -> None:
        """Applies gradients.

        Args:
          gradients: tensors, slices, or `None`.
          variables: their variables.
          given: what is known about the gradients.
        """
        if not variables:
            return
        self._prepare_for(gradients, variables)
        if distribution.across_replicas():
            self._in_each_replica(self._apply, gradients, variables, given)
            return
        step = self._step_for(gradients, variables, given)
        tensors = [rows.tensors(gradient) for gradient in gradients if gradient is not None]
        summed, bad = self._summed(step.entries, tensors, given)
        if distribution.number_of_replicas() == 1 or self._updates_here():
            step.run(summed, bad)

    def _updates_here(self) -> bool:
        """Whether this replica updates variables: its own, or those that all share."""
        shared = distribution.is_shared(self._store.iterations)
        if shared and self.gradient_reducer is not None:
            raise ValueError(
                f"{self._title()}: `gradient_reducer` is not possible where all replicas "
                "share the variables, as under CentralStorageStrategy. Use MirroredStrategy, "
                "or leave the sum over replicas to the optimizer."
            )
        return not shared or distribution.is_first_replica()

    def _prepare_for(self, gradients: list[Any], variables: list[Any]) -> None:
        """Makes the slots if there are none, and loads state that waits for them."""
        accumulation.recount(self)
        if not self.built or self._waiting is not None or distribution.across_replicas():
            self._admit(gradients, variables)
        self._load_waiting(force=True)

    def _summed(
        self, entries: Sequence[Tracked], gradients: list[Any], given: Received
    ) -> tuple[list[Any], tf.Tensor | None]:
        """Sums gradients over the replicas where that is still to be done.

        Returns:
          gradients: the sums.
          bad: 0-d bool tensor: a replica found gradients that somebody else summed not
            finite; `None` where every replica has the same ones.
        """
        replicas = distribution.number_of_replicas()
        if self.gradient_reducer is not None and given.aggregate:
            if accumulation.wanted(self) == 1:
                gradients = self._reduced(gradients)
        elif given.aggregate and replicas > 1:
            gradients = distribution.sum_over_replicas(gradients, self.aggregation_dtype)
            # What takes its gradient as its value gets their mean.
            pairs = zip(entries, gradients)
            gradients = [g / replicas if entry.overwrite else g for entry, g in pairs]
        elif replicas > 1 and self._guard is not None and not given.examined:
            used = [not_wider(g, entry.dtype) for entry, g in zip(entries, gradients)]
            return gradients, distribution.any_replica(not_finite(used))
        return gradients, None

    def _in_each_replica(
        self,
        method: Callable[[list[Any], list[Any], Received], None],
        gradients: list[Any],
        variables: list[Any],
        given: Received,
    ) -> None:
        """Calls a method in each replica, from outside of them."""
        kinds = {distribution.is_per_replica(g) for g in gradients if g is not None}
        if len(kinds) > 1:
            raise ValueError(
                f"{self._title()}: some gradients have a value for each replica, others are "
                "plain tensors. Across replicas give all of them as `strategy.run` returns "
                "them, or all of them as sums."
            )
        given = dataclasses.replace(given, aggregate=given.aggregate and True in kinds)

        def replica(values: tuple[Any, ...]) -> None:
            method(list(values), variables, given)

        tf.distribute.get_strategy().run(replica, args=(tuple(gradients),))

    def _apply_examined(
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
        self._prepare_for(gradients, variables)
        if distribution.across_replicas():
            self._in_each_replica(
                functools.partial(self._apply_examined, method), gradients, variables, given
            )
            return
        entries = self._entries_of(gradients, variables)
        tensors = [rows.tensors(gradient) for gradient in gradients if gradient is not None]
        summed, bad = self._summed(entries, tensors, given)
        summed = [not_wider(g, entry.dtype) for entry, g in zip(entries, summed)]
        learned = [(e, _values(g)) for e, g in zip(entries, summed) if not e.overwrite]
        values = [gradient for _, gradient in learned]
        verdict = self._guard.examine(values, given.scaled, measured=False)
        finite = verdict.finite if bad is None else tf.logical_and(verdict.finite, ~bad)

        def proceed() -> None:
            unscaled = iter([
                g if e.overwrite or verdict.inverse is None else rows.times(g, verdict.inverse)
                for e, g in zip(entries, summed)
            ])  # fmt: skip
            whole = [None if g is None else next(unscaled) for g in gradients]
            with received.known(self, Received(aggregate=False, scaled=False, examined=True)):
                method(whole, variables)
            self._guard.passed()

        def skip() -> None:
            self._guard.skip(values, [entry.path for entry, _ in learned], verdict.inverse)

        if distribution.number_of_replicas() == 1 or self._updates_here():
            with ordering.update(summed):
                loops.choose(finite, proceed, skip)

    def _reduced(self, gradients: list[Any]) -> list[Any]:
        """Returns what the user's reducer makes of gradients."""
        reduced = list(self.gradient_reducer(gradients))
        if len(reduced) != len(gradients):
            raise ValueError(
                f"{self._title()}: `gradient_reducer` got {len(gradients)} gradients and "
                f"returned {len(reduced)}. It must return one for each, in the same order."
            )
        return reduced

    def _step_for(self, gradients: list[Any], variables: list[Any], given: Received) -> Step:
        """Returns the step of these variables; in eager code always the same one."""
        if not tf.executing_eagerly():
            entries = self._entries_of(gradients, variables)
            return self._step_class(self, entries, given, self._absent(entries))
        missing = tuple(gradient is None for gradient in gradients)
        watched = distribution.is_watched()
        kind = (distribution.place(), given.scaled, given.examined, watched)
        by_identity = (tuple(map(id, variables)), missing, kind)
        found = self._lookups.get(by_identity) or self._lookups.recall(by_identity)
        if found is not None:
            return found[0]
        entries = self._entries_of(gradients, variables)
        absent = self._absent(entries)
        key = (tuple(map(id, entries)), tuple(map(id, absent)), kind)
        step = self._steps.recall(key)
        if step is None:
            step = self._step_class(self, entries, given, absent)
            self._steps.keep(key, step)
        # Holding the variables keeps their ids valid.
        self._lookups.keep(by_identity, (step, variables))
        return step

    def _entries_of(self, gradients: list[Any], variables: list[Any]) -> list[Tracked]:
        """Returns the entries that have a gradient, after checking all of them."""
        self._admit(gradients, variables)
        pairs = list(zip(gradients, variables))
        missing = [path_of(variable) for gradient, variable in pairs if gradient is None]
        if missing:
            warnings.warn(
                f"{self._title()}: no gradient for {', '.join(missing)}; they stay as "
                "they are.",
                stacklevel=4,
            )
        return [self._entry(variable) for gradient, variable in pairs if gradient is not None]

    def _absent(self, entries: list[Tracked]) -> list[Tracked]:
        """Returns the entries that have no gradient, but may have gathered some before.

        Their variables were given without one, or not at all. What is frozen stays as it is.
        """
        present = {id(entry) for entry in entries}
        return [
            e
            for e in self._store.tracked
            if e.accumulator is not None and id(e) not in present and e.public.trainable
        ]

    def _admit(self, gradients: list[Any], variables: list[Any]) -> None:
        """Checks what was given, and makes slots of variables that have none yet."""
        distribution.check_place(self._distribution_strategy, self.name)
        natives = [distribution.container(self._unwrap(variable)) for variable in variables]
        seen: set[int] = set()
        for variable, native, gradient in zip(variables, natives, gradients):
            if id(native) in seen:
                raise ValueError(
                    f"{self._title()}: variable {path_of(variable)!r} was given twice in one "
                    "call. Add its gradients up and give it once."
                )
            seen.add(id(native))
            if gradient is not None:
                compute_dtype(native, path_of(variable))
        if all(gradient is None for gradient in gradients):
            raise ValueError(
                f"{self._title()}: no gradient for any variable. Variables: "
                f"{', '.join(map(path_of, variables))}. Check that the loss depends on them "
                "and that it was computed under the tape."
            )
        if not self.built:
            with tf.init_scope():
                self.build(variables)
        elif any(self._store.place(native) is None for native in natives):
            self._extend(variables, natives)
        self._store.awaited.take(distribution.local(self._store.iterations))

    def _extend(self, variables: list[Any], natives: list[tf.Variable]) -> None:
        """Makes slots of variables that came after `build`; all others keep theirs."""
        known = self._store.given
        new = [v for v, n in zip(variables, natives) if self._store.place(n) is None]
        with tf.init_scope():
            self.build(variables if len(variables) == len(known) + len(new) else [*known, *new])
        tf.get_logger().info(
            "%s: %d of the %d variables that got gradients are new, the first is %r. Their "
            "slots start fresh; those of the %d others it knows stay as they are.",
            *(self._title(), len(new), len(variables), path_of(new[0]), len(known)),
        )


def _values(gradient: Any) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
