"""One optimizer step over a set of variables, written once for every context.

Called eagerly, the step is one call of one traced function. In a graph it adds
its operations to that graph. Its order: sum duplicate rows, unscale, norms, then
(where accumulation says so, under a `tf.cond`) one kernel per variable, the
constraints, and the count of iterations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.numerics import loops
from tf_keras_optim.engine.options import is_lazy
from tf_keras_optim.engine.state import evaluation
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step import gradients as incoming
from tf_keras_optim.engine.step import ordering
from tf_keras_optim.engine.step.factors import given
from tf_keras_optim.engine.step.late_rates import UntraceableError
from tf_keras_optim.engine.step.loss_scaler import FiniteCheck, too_many_skips
from tf_keras_optim.engine.step.planning import Planning
from tf_keras_optim.engine.step.rate import Rate
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.step.scaling import Scaling
from tf_keras_optim.engine.step.updating import Updating
from tf_keras_optim.engine.tensorflow import distribution, placement, tensorflow_private
from tf_keras_optim.engine.update import rows, turns
from tf_keras_optim.engine.update.plans import StepPlan

Reduced = Callable[[list[Any]], list[Any]]


class Step:
    """The update of one set of variables.

    Args:
      context: what the optimizer's parts share.
      rate: its learning rate.
      scaling: its loss scale.
      planning: says what the step does.
      reduced: sums gradients as the user has it.
      entries: the variables that get a gradient, in the order of the gradients.
      given: what is known about the gradients.
      absent: variables without a gradient in this call that accumulate.
    """

    def __init__(
        self,
        context: Context,
        rate: Rate,
        scaling: Scaling,
        planning: Planning,
        reduced: Reduced,
        entries: Sequence[VariableState],
        given: Received,
        absent: Sequence[VariableState] = (),
    ):
        self._context = context
        self._rate = rate
        self._scaling = scaling
        self._planning = planning
        self._reduced = reduced
        self._updating = Updating(context, rate, planning)
        self.entries = list(entries)
        self.absent = list(absent)
        self.given = given
        self.plan = StepPlan()
        self._function = tf.function(self._body, autograph=False, reduce_retracing=True)
        self._traced: dict[tuple, Any] = {}
        self._shape_of = tensorflow_private.shape_getter()

    def run(self, gradients: list[Any], bad_elsewhere: tf.Tensor | None = None) -> None:
        """Applies gradients, already summed over replicas, one for each entry.

        Args:
          gradients: the gradients.
          bad_elsewhere: 0-d bool tensor: another replica found its gradients not finite.
        """
        if not tf.executing_eagerly():
            self._context.traces.in_graph = True
            try:
                self._body(gradients, None, bad_elsewhere)
            except UntraceableError as error:
                raise TypeError(str(error)) from error
            return
        with tf.init_scope():  # outside any gradient tape
            while True:
                try:
                    asked = self._rate.asked() if self._rate.outside else {}
                    self._call(gradients, asked, bad_elsewhere)
                    return
                except UntraceableError as error:
                    self._rate.ask_from_now_on(error.name)
                except tf.errors.InvalidArgumentError as error:
                    told = too_many_skips(error)
                    if told is None:
                        raise
                    raise told from None

    def _call(
        self,
        gradients: list[Any],
        asked: dict[str, tf.Tensor],
        bad_elsewhere: tf.Tensor | None,
    ) -> None:
        """Calls the traced step, dense ones without what `tf.function` does for each argument.

        With hundreds of variables that takes longer than the step itself.
        """
        if tf.IndexedSlices in set(map(type, gradients)):
            self._function(gradients, asked, bad_elsewhere)
            return
        tensors = [*gradients, *(asked[name] for name in sorted(asked))]
        if bad_elsewhere is not None:
            tensors.append(bad_elsewhere)
        key = (*asked, *[(self._shape_of(tensor), tensor.dtype) for tensor in tensors])
        found = self._traced.get(key)
        if found is None:
            traced = self._function.get_concrete_function(gradients, asked, bad_elsewhere)
            found = self._traced[key] = tensorflow_private.flat_call(traced)
        call, captured = found
        call(tensors, captured)

    def _body(
        self,
        gradients: list[Any],
        asked: Mapping[str, tf.Tensor] | None,
        bad_elsewhere: tf.Tensor | None,
    ) -> None:
        for entry, gradient in zip(self.entries, gradients):
            self._planning.of_group(entry.group).check_sparse(entry, gradient)
        gradients = self._context.sharding.placed(self.entries, gradients)
        checks = incoming.check(self.entries, gradients)
        self._context.traces.count += 1
        self.plan = self._planning.step_plan(self.given)
        turns.check(self._context.title, self.plan, self._scaling.has_scale)
        self._context.store.awaited.check(self._context.title)
        checks += [
            check
            for entry, gradient in zip(self.entries, gradients)
            if isinstance(gradient, tf.IndexedSlices)
            for check in rows.check(entry, gradient)
        ]
        with tf.control_dependencies(checks), ordering.update(gradients) as waits:
            if checks or waits:
                # A kernel that TensorFlow inlines waits for nothing but what it computes from.
                gradients = tf.nest.map_structure(
                    tf.identity, gradients, expand_composites=True
                )
            self._examine(gradients, asked, bad_elsewhere)

    def _examine(
        self,
        gradients: list[Any],
        asked: Mapping[str, tf.Tensor] | None,
        bad_elsewhere: tf.Tensor | None,
    ) -> None:
        """One call: counts it, unless the gradients are not finite and such steps skipped."""
        pairs = [(entry, self._taken(entry, g)) for entry, g in zip(self.entries, gradients)]
        if not self.plan.examines:
            self._count(pairs, asked, None)
            return
        scaler = self._scaling.scaler
        assert scaler is not None
        learned = [(entry, given(entry, g)) for entry, g in pairs if not entry.overwrite]
        values = [gradient for _, gradient in learned]
        wanted = self.plan.clips is not None or (
            self.plan.watches and not distribution.in_xla()
        )
        measured = wanted and self.plan.calls == 1
        check = scaler.examine(values, self.plan.unscales, measured)
        finite = check.finite
        if bad_elsewhere is not None:
            finite = tf.logical_and(finite, tf.logical_not(bad_elsewhere))

        def proceed() -> None:
            self._count(pairs, asked, check)
            scaler.passed()

        def skip() -> None:
            scaler.skip(values, [entry.path for entry, _ in learned], check.inverse)

        loops.choose(finite, proceed, skip)

    def _count(
        self,
        pairs: Sequence[tuple[VariableState, Any]],
        asked: Mapping[str, tf.Tensor] | None,
        check: FiniteCheck | None,
    ) -> None:
        """One call with good gradients: updates or accumulates, and counts."""
        evaluation.resume(self._context)
        iterations = distribution.local(self._context.store.iterations)
        updates = self._context.counter.updates()
        if self.plan.calls == 1:
            self._updating.update(self.plan, pairs, updates, asked, check)
        else:
            for entry, gradient in pairs:
                _accumulate(entry, gradient, check)
            due = tf.equal((iterations.read_value() + 1) % self.plan.calls, 0)
            loops.choose(due, lambda: self._close_window(updates, asked))
        iterations.assign_add(1)

    def _close_window(self, updates: tf.Tensor, asked: Mapping[str, tf.Tensor] | None) -> None:
        """The update with all that was accumulated.

        A variable that has no gradient in this call takes part if it had one before in this
        window, which shows in a sum that is not zero.
        """
        gathered = {}
        for entry in self.absent:
            total = distribution.local(entry.accumulator).read_value()
            gathered[id(entry)] = tf.reduce_any(tf.not_equal(total, 0))
        pairs = self._waiting([*self.entries, *self.absent])
        self._updating.update(self.plan, pairs, updates, asked, gathered=gathered)

    def _waiting(
        self, entries: list[VariableState]
    ) -> list[tuple[VariableState, tf.Tensor | None]]:
        """Returns the accumulated gradients; reduced ones if a reducer was given."""
        if self._context.options.gradient_reducer is None:
            return [(entry, None) for entry in entries]
        accumulators = [distribution.local(entry.accumulator) for entry in entries]
        sums = self._reduced([a.read_value() for a in accumulators])
        for accumulator in accumulators:
            accumulator.assign(tf.zeros_like(accumulator))
        return list(zip(entries, sums))

    def _taken(self, entry: VariableState, gradient: Any) -> Any:
        """Sums repeated rows; only a lazy update keeps them apart from the rest."""
        lazy = is_lazy(self._context.options, entry.path) and not entry.overwrite
        return incoming.taken(entry, gradient, keeps_rows=lazy)


def _accumulate(entry: VariableState, gradient: tf.Tensor, check: FiniteCheck | None) -> None:
    accumulator = distribution.local(entry.accumulator)
    with placement.where(accumulator):
        gradient = tf.cast(gradient, accumulator.dtype)
        if check is not None and check.inverse is not None and not entry.overwrite:
            gradient *= tf.cast(check.inverse, gradient.dtype)
        if entry.overwrite:
            accumulator.assign(tf.maximum(accumulator.read_value(), gradient))
        else:
            accumulator.assign_add(gradient)
