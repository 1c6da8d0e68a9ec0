"""One optimizer step over a set of variables, written once for every context.

Called eagerly, the step is one call of one traced function. In a graph it adds
its operations to that graph. Its order: sum duplicate rows, unscale, norms, then
(where accumulation says so, under a `tf.cond`) one kernel per variable, the
constraints, and the count of iterations.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import (
    distribution,
    formulas,
    late,
    loops,
    norms,
    ordering,
    plans,
    rows,
    tensorflow_private,
)
from tf_keras_optim.engine import gradients as incoming
from tf_keras_optim.engine.execution import Job
from tf_keras_optim.engine.guard import Verdict, too_many_skips
from tf_keras_optim.engine.kernels import average_only
from tf_keras_optim.engine.late_rates import UntraceableError
from tf_keras_optim.engine.plans import StepPlan, UpdateInputs
from tf_keras_optim.engine.received import Received
from tf_keras_optim.engine.store import Tracked


class Step:
    """The update of one set of variables.

    Args:
      optimizer: the engine that the variables belong to.
      entries: the variables that get a gradient, in the order of the gradients.
      given: what is known about the gradients.
      absent: variables without a gradient in this call that accumulate.
    """

    def __init__(
        self,
        optimizer: Any,
        entries: Sequence[Tracked],
        given: Received,
        absent: Sequence[Tracked] = (),
    ):
        self.optimizer = optimizer
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
            self.optimizer._traced_in_graph = True
            try:
                self._body(gradients, None, bad_elsewhere)
            except UntraceableError as error:
                raise TypeError(str(error)) from error
            return
        with tf.init_scope():  # outside any gradient tape
            while True:
                try:
                    self._call(gradients, self.optimizer._asked(), bad_elsewhere)
                    return
                except UntraceableError as error:
                    self.optimizer._ask_from_now_on(error.name)
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
        if any(isinstance(gradient, tf.IndexedSlices) for gradient in gradients):
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
        checks = incoming.check(self.entries, gradients)
        self.optimizer.trace_count += 1
        self.plan = self.optimizer._step_plan(self.given)
        self.optimizer._store.awaited.check(self.optimizer._title())
        checks += [
            check
            for entry, gradient in zip(self.entries, gradients)
            if isinstance(gradient, tf.IndexedSlices)
            for check in rows.check(entry, gradient)
        ]
        with tf.control_dependencies(checks), ordering.update(gradients):
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
        guard = self.optimizer._guard
        learned = [(entry, _given(entry, g)) for entry, g in pairs if not entry.overwrite]
        values = [gradient for _, gradient in learned]
        measured = self.plan.clips is not None and self.plan.calls == 1
        verdict = guard.examine(values, self.plan.unscales, measured)
        finite = verdict.finite
        if bad_elsewhere is not None:
            finite = tf.logical_and(finite, tf.logical_not(bad_elsewhere))

        def proceed() -> None:
            self._count(pairs, asked, verdict)
            guard.passed()

        def skip() -> None:
            guard.skip(values, [entry.path for entry, _ in learned], verdict.inverse)

        loops.choose(finite, proceed, skip)

    def _count(
        self,
        pairs: Sequence[tuple[Tracked, Any]],
        asked: Mapping[str, tf.Tensor] | None,
        verdict: Verdict | None,
    ) -> None:
        """One call with good gradients: updates or accumulates, and counts."""
        optimizer = self.optimizer
        iterations = distribution.local(optimizer._store.iterations)
        updates = optimizer._updates()
        if self.plan.calls == 1:
            self._update(pairs, updates, asked, verdict)
        else:
            for entry, gradient in pairs:
                _accumulate(entry, gradient, verdict)
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
        self._update(pairs, updates, asked, gathered=gathered)

    def _waiting(self, entries: list[Tracked]) -> list[tuple[Tracked, tf.Tensor | None]]:
        """Returns the accumulated gradients; reduced ones if a reducer was given."""
        if self.optimizer.gradient_reducer is None:
            return [(entry, None) for entry in entries]
        accumulators = [distribution.local(entry.accumulator) for entry in entries]
        sums = self.optimizer._reduced([a.read_value() for a in accumulators])
        for accumulator in accumulators:
            accumulator.assign(tf.zeros_like(accumulator))
        return list(zip(entries, sums))

    def _taken(self, entry: Tracked, gradient: Any) -> Any:
        """Sums repeated rows; only a lazy update keeps them apart from the rest."""
        gradient = incoming.in_shape(entry, gradient)
        if not isinstance(gradient, tf.IndexedSlices):
            return gradient
        lazy = self.optimizer._is_lazy(entry) and not entry.overwrite
        if gradient.dtype.size < entry.dtype.size:
            gradient = tf.cast(gradient, entry.dtype)
        return (rows.summed if lazy else rows.dense)(gradient, entry.variable.shape[0])

    def _update(
        self,
        pairs: Sequence[tuple[Tracked, tf.Tensor | None]],
        updates: tf.Tensor,
        asked: Mapping[str, tf.Tensor] | None,
        verdict: Verdict | None = None,
        gathered: Mapping[int, tf.Tensor] | None = None,
    ) -> None:
        """One real update. A gradient of `None` stands for the accumulated one.

        Variables in `gathered`, by the ids of their entries, take part if that is true.
        """
        gathered = gathered or {}
        optimizer = self.optimizer
        learned = [(e, g) for e, g in pairs if not e.overwrite]
        for entry, gradient in pairs:
            if entry.overwrite:
                _if_so(gathered.get(id(entry)), functools.partial(_overwrite, entry, gradient))
        entries = [entry for entry, _ in learned]
        scales = self._scales(entries, [_given(e, g) for e, g in learned], verdict)
        rate = optimizer._rate_of_step(updates, asked)
        averaging = self._averaging(updates)
        begun = late.note_trace(optimizer)
        scalars: dict[late.Kind, Mapping[str, tf.Tensor]] = {}
        jobs: list[Job] = []
        rule = optimizer._rule()
        for (entry, gradient), scale in zip(learned, scales):
            plan = optimizer._update_plan(entry, rule, self.plan, _source(gradient))
            kind = (entry.dtype, optimizer._rate_factor(entry), begun.get(id(entry)))
            if kind not in scalars:
                own = rate if kind[1] == 1.0 else rate * tf.cast(kind[1], rate.dtype)
                scalars[kind] = optimizer._dynamic_scalars(
                    kind[0], own, updates, asked, kind[2]
                )
            inputs = UpdateInputs(
                gradient,
                scalars[kind],
                scale,
                seed=optimizer._rounding(entry, updates) if plan.rounds else None,
                **self._begun(averaging, entry, updates),
            )
            jobs.append((entry, plan, inputs))

        def compute(dtype: tf.DType, first: Tracked | None) -> Mapping[str, tf.Tensor]:
            return optimizer._dynamic_scalars(dtype, rate, updates, asked, first)

        concluded = optimizer._execution.prepare(jobs, gathered, compute)
        for entry, plan, inputs in jobs:
            inputs = inputs.with_scalars(concluded)
            _if_so(
                gathered.get(id(entry)),
                functools.partial(optimizer._execution.run, entry, plan, inputs),
                functools.partial(average_only, entry, inputs) if averaging else None,
            )
        late.carry(optimizer._store, begun, scalars, compute, concluded)
        self._average_others(learned, averaging, updates)
        for entry, _ in learned:
            if getattr(entry.public, "constraint", None) is not None:
                _if_so(gathered.get(id(entry)), functools.partial(_constrain, entry))

    def _averaging(self, updates: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scalars of the moving average; after the first update it equals the weights."""
        if not self.plan.averages:
            return {}
        momentum = tf.constant(self.optimizer.ema_momentum, tf.float64)
        momentum = tf.where(tf.equal(updates, 0), tf.zeros_like(momentum), momentum)
        found = {"ema_momentum": momentum}
        every = self.plan.overwrites_every
        if every is not None:
            found["ema_overwrite"] = tf.equal((updates + 1) % every, 0)
        return found

    def _average_others(
        self,
        learned: Sequence[tuple[Tracked, Any]],
        averaging: Mapping[str, tf.Tensor],
        updates: tf.Tensor,
    ) -> None:
        """Averages go on for variables that got no gradient in this step.

        Their weights stay as they are, those of a layer that was frozen since, say.
        """
        if averaging:
            averaging = {"ema_momentum": averaging["ema_momentum"]}
            done = {id(entry) for entry, _ in learned}
            for entry in self.optimizer._store.tracked:
                if id(entry) not in done:
                    average_only(
                        entry, UpdateInputs(None, {}, **self._begun(averaging, entry, updates))
                    )

    def _begun(
        self, averaging: Mapping[str, tf.Tensor], entry: Tracked, updates: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns what one variable's average needs; it may have no value yet."""
        found = dict(averaging)
        optimizer = self.optimizer
        calls = optimizer._store.awaited.calls_before(entry.average) if averaging else None
        if calls is not None:
            begins = tf.equal(updates, calls // optimizer._store.counted_by)
            momentum = found["ema_momentum"]
            found["ema_momentum"] = tf.where(begins, tf.zeros_like(momentum), momentum)
        return found

    def _scales(
        self, entries: Sequence[Tracked], gradients: list[tf.Tensor], verdict: Verdict | None
    ) -> list[tf.Tensor | None]:
        """Returns for `conditioned` what unscales, averages and clips each gradient."""
        plan = self.plan
        if not plan.scales:
            return [None] * len(entries)
        factor: Any = plan.factor
        if verdict is not None and verdict.inverse is not None:
            factor = verdict.inverse * factor
        if plan.limit is None or not gradients:
            return _for_dtypes(entries, [tf.cast(factor, tf.float64)] * len(entries))
        found = norms.norms(gradients, verdict and verdict.squares, plan.limit / factor)
        if plan.clips == plans.TOGETHER:
            scales = formulas.clip_scales(found.total(), factor, plan.limit)
            return _for_dtypes(entries, [scales[0]] * len(entries))
        return _for_dtypes(entries, formulas.clip_scales(found, factor, plan.limit))


def _source(gradient: Any) -> str:
    """Returns where an update's gradient comes from, as plans name it."""
    if gradient is None:
        return plans.ACCUMULATED
    return plans.ROWS if isinstance(gradient, tf.IndexedSlices) else plans.GIVEN


def _for_dtypes(entries: Sequence[Tracked], scales: Any) -> list[tf.Tensor]:
    """Returns the n-th scale in the compute dtype of the n-th entry."""
    found = {}
    for dtype in {entry.dtype for entry in entries}:
        if tf.is_tensor(scales):
            found[dtype] = tf.unstack(tf.cast(scales, dtype))
        else:
            found[dtype] = [tf.cast(scales[0], dtype)] * len(entries)
    return [found[entry.dtype][number] for number, entry in enumerate(entries)]


def _given(entry: Tracked, gradient: Any) -> tf.Tensor:
    if isinstance(gradient, tf.IndexedSlices):
        return gradient.values  # each row once; the others are zero
    if gradient is not None:
        return gradient
    return distribution.local(entry.accumulator).read_value()


def _accumulate(entry: Tracked, gradient: tf.Tensor, verdict: Verdict | None) -> None:
    accumulator = distribution.local(entry.accumulator)
    gradient = tf.cast(gradient, accumulator.dtype)
    if verdict is not None and verdict.inverse is not None and not entry.overwrite:
        gradient *= tf.cast(verdict.inverse, gradient.dtype)
    if entry.overwrite:
        accumulator.assign(tf.maximum(accumulator.read_value(), gradient))
    else:
        accumulator.assign_add(gradient)


def _overwrite(entry: Tracked, gradient: tf.Tensor | None) -> None:
    """Gives a variable its "gradient" as its value (float8 scales and histories)."""
    variable = distribution.local(entry.variable)
    variable.assign(tf.cast(_given(entry, gradient), variable.dtype))
    if gradient is None:
        accumulator = distribution.local(entry.accumulator)
        accumulator.assign(tf.zeros_like(accumulator))


def _constrain(entry: Tracked) -> None:
    variable = distribution.local(entry.variable)
    value = entry.public.constraint(variable.read_value())
    variable.assign(tf.cast(value, variable.dtype))


def _if_so(
    condition: tf.Tensor | None,
    then: Callable[[], None],
    otherwise: Callable[[], None] | None = None,
) -> None:
    """Calls one of two functions; the first if there is no condition."""
    if condition is None:
        then()
    else:
        loops.choose(condition, then, otherwise)
