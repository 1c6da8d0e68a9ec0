"""One real update of the variables of a step: plans, scalars, kernels, averages."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.numerics import loops
from tf_keras_optim.engine.state import late
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step import averages, factors, refreshing
from tf_keras_optim.engine.step.factors import Pairs, given
from tf_keras_optim.engine.step.loss_scaler import FiniteCheck
from tf_keras_optim.engine.step.measuring import Measuring
from tf_keras_optim.engine.step.planning import Planning
from tf_keras_optim.engine.step.rate import Rate
from tf_keras_optim.engine.step.step_scalars import StepScalars
from tf_keras_optim.engine.tensorflow import distribution, placement
from tf_keras_optim.engine.update import plans
from tf_keras_optim.engine.update.execution import Job
from tf_keras_optim.engine.update.kernels import average_only
from tf_keras_optim.engine.update.plans import Rule, StepPlan, UpdateInputs


class Updating:
    """Updates variables as plans say.

    Args:
      context: what the optimizer's parts share.
      rate: its learning rate.
      planning: plans updates, and runs the algorithm.
    """

    def __init__(self, context: Context, rate: Rate, planning: Planning):
        self._context = context
        self._rate = rate
        self._planning = planning

    def update(
        self,
        step: StepPlan,
        pairs: Pairs,
        updates: tf.Tensor,
        asked: Mapping[str, tf.Tensor] | None,
        check: FiniteCheck | None = None,
        gathered: Mapping[int, tf.Tensor] | None = None,
    ) -> None:
        """Updates variables.

        Args:
          step: what the step does.
          pairs: the variables and their gradients.
          updates: the number of updates so far.
          asked: what was computed outside of the step.
          check: what was found about the gradients, if they were looked at.
          gathered: by the ids of their entries, whether variables take part; those that are
            not there do.
        """
        gathered = gathered or {}
        learned = [(e, g) for e, g in pairs if not e.overwrite]
        for entry, gradient in pairs:
            if entry.overwrite:
                if_so(gathered.get(id(entry)), functools.partial(_overwrite, entry, gradient))
        rate = self._rate.of_step(updates, asked)
        averaging = self._averaging(step, updates)
        begun = late.note_trace(self._context)
        scalars = StepScalars(self._context, self._planning, self._rate, updates, asked, rate)
        found = factors.of_update(step, learned, check)
        measuring: Measuring | None = None
        if step.watches and learned:
            measuring = Measuring(self._context, step, learned, found, check, gathered)
        jobs: list[Job] = []
        for entry, plan, inputs in self._jobs(step, learned, found, scalars, begun, updates):
            average = self._begun(averaging, entry, updates)
            jobs.append((entry, plan, dataclasses.replace(inputs, **average)))
        concluded = self._prepare(jobs, gathered, scalars)
        refreshed = refreshing.plan(self._context, self._planning, begun, scalars)
        self._run(jobs, gathered, concluded)
        refreshing.run(self._context, self._planning, refreshed, updates)
        late.carry(self._context.store, begun, scalars.known, scalars.computed, concluded)
        self._average_others(learned, averaging, updates)
        for entry, _ in learned:
            if getattr(entry.public, "constraint", None) is not None:
                if_so(gathered.get(id(entry)), functools.partial(_constrain, entry))
        self._spread(pairs)
        if measuring is not None:
            measuring.end(updates, scalars.rate_of)

    def _jobs(
        self,
        step: StepPlan,
        learned: Pairs,
        found: factors.Factors,
        scalars: StepScalars,
        begun: Mapping[int, VariableState],
        updates: tf.Tensor,
    ) -> Iterator[Job]:
        """Yields the updates of variables, without what their averages need."""
        rules: dict[str, Rule] = {}
        lookahead = _lookahead(step, updates)
        for (entry, gradient), scale in zip(learned, found.scales):
            planning = self._planning.of_group(entry.group)
            if entry.group not in rules:
                rules[entry.group] = planning.rule()
            source = plans.source_of(gradient)
            plan = planning.update_plan(entry, rules[entry.group], step, source)
            factor, first = planning.rate_factor(entry), begun.get(id(entry))
            own = scalars.of(late.Kind(entry.dtype, factor, first, entry.group))
            own = planning.with_seed(own, entry, updates)
            seed = planning.rounding(entry, updates) if plan.rounds else None
            yield entry, plan, UpdateInputs(gradient, own, scale, seed=seed, **lookahead)

    def _prepare(
        self,
        jobs: Sequence[Job],
        gathered: Mapping[int, tf.Tensor],
        scalars: StepScalars,
    ) -> dict[str, Mapping[str, tf.Tensor]]:
        """Does what comes before any variable moves; returns by group what is concluded."""
        by_group: dict[str, list[Job]] = {}
        for job in jobs:
            by_group.setdefault(job[0].group, []).append(job)
        found: dict[str, Mapping[str, tf.Tensor]] = {}
        for group, own in by_group.items():

            def scalars_of(dtype: tf.DType, group: str = group) -> Mapping[str, tf.Tensor]:
                return scalars.computed(late.Kind(dtype, group=group))

            execution = self._planning.of_group(group).execution
            found[group] = execution.prepare(own, gathered, scalars_of)
        return found

    def _run(
        self,
        jobs: Sequence[Job],
        gathered: Mapping[int, tf.Tensor],
        concluded: Mapping[str, Mapping[str, tf.Tensor]],
    ) -> None:
        """Runs updates, with the scalars that the algorithm has concluded."""
        for entry, plan, inputs in jobs:
            execution = self._planning.of_group(entry.group).execution
            inputs = inputs.with_scalars(concluded[entry.group])
            if_so(
                gathered.get(id(entry)),
                functools.partial(execution.run, entry, plan, inputs),
                functools.partial(average_only, entry, inputs) if plan.averages else None,
            )

    def _spread(self, pairs: Pairs) -> None:
        """Gives other replicas the values that owners have updated, where there are owners.

        Variables without a gradient have not moved.
        """
        if not self._context.sharding.is_on:
            return
        rows = {
            id(entry): gradient.indices
            for entry, gradient in pairs
            if isinstance(gradient, tf.IndexedSlices)
            and getattr(entry.public, "constraint", None) is None
        }
        self._context.sharding.spread([entry for entry, _ in pairs], rows)

    # Averages.

    def _averaging(self, step: StepPlan, updates: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scalars of the moving average; after the first update it equals the weights."""
        if not step.averages:
            return {}
        momentum, share = averages.shares(self._context.options, updates)
        found = {"ema_momentum": momentum, "ema_share": share}
        if step.overwrites_every is not None:
            due = tf.equal((updates + 1) % step.overwrites_every, 0)
            found["ema_overwrite"] = due
        return found

    def _average_others(
        self, learned: Pairs, averaging: Mapping[str, tf.Tensor], updates: tf.Tensor
    ) -> None:
        """Averages go on for variables that got no gradient in this step.

        Their weights stay as they are, those of a layer that was frozen since, say.
        """
        if averaging:
            averaging = {n: averaging[n] for n in ("ema_momentum", "ema_share")}
            done = {id(entry) for entry, _ in learned}
            for entry in self._context.store.tracked:
                if id(entry) not in done:
                    average = self._begun(averaging, entry, updates)
                    average_only(entry, UpdateInputs(None, {}, **average))

    def _begun(
        self, averaging: Mapping[str, tf.Tensor], entry: VariableState, updates: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns what one variable's average needs; it may have no value yet."""
        found, store = dict(averaging), self._context.store
        calls = store.awaited.calls_before(entry.average) if averaging else None
        if calls is not None:
            begins = tf.equal(updates, calls // store.counted_by)
            for name, first in (("ema_momentum", 0.0), ("ema_share", 1.0)):
                found[name] = tf.where(begins, tf.constant(first, tf.float64), found[name])
        return found


def _lookahead(step: StepPlan, updates: tf.Tensor) -> dict[str, tf.Tensor]:
    """Says whether this is an update after which variables meet their slow weights."""
    if step.looks_every is None:
        return {}
    return {"lookahead_due": tf.equal((updates + 1) % step.looks_every, 0)}


def _overwrite(entry: VariableState, gradient: tf.Tensor | None) -> None:
    """Gives a variable its "gradient" as its value (float8 scales and histories)."""
    variable = distribution.local(entry.variable)
    variable.assign(tf.cast(given(entry, gradient), variable.dtype))
    if gradient is None:
        accumulator = distribution.local(entry.accumulator)
        accumulator.assign(tf.zeros_like(accumulator))


def _constrain(entry: VariableState) -> None:
    variable = distribution.local(entry.variable)
    with placement.where(variable):
        value = entry.public.constraint(variable.read_value())
        variable.assign(tf.cast(value, variable.dtype))


def if_so(
    condition: tf.Tensor | None,
    then: Callable[[], None],
    otherwise: Callable[[], None] | None = None,
) -> None:
    """Calls one of two functions; the first if there is no condition."""
    if condition is None:
        then()
    else:
        loops.choose(condition, then, otherwise)
