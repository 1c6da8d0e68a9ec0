"""What a step is to do, and the numbers that it does it with."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import declarations, nature
from tf_keras_optim.engine.algorithm import Algorithm
from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.options import shared_values
from tf_keras_optim.engine.seen import class_for, class_of
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step import late_rates
from tf_keras_optim.engine.step.received import Received
from tf_keras_optim.engine.step.scaling import Scaling
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.update import (
    kernels,
    measures,
    plans,
    products,
    purity,
    refreshes,
)
from tf_keras_optim.engine.update.execution import Execution
from tf_keras_optim.engine.update.plans import Rule, StepPlan, UpdatePlan
from tf_keras_optim.engine.update.scalars import Scalars
from tf_keras_optim.engine.variable_hooks import VariableOptions, info_of, options_for

NOISE_SEED = "noise_seed"  # what a seed is called among the scalars


class Planning:
    """Plans steps and their updates, and computes the scalars of the algorithm.

    Args:
      context: what the optimizer's parts share.
      scaling: its loss scale.
      update_step: the optimizer's, where it is written so; called with gradient, variable and
        learning rate.

    Attributes:
      execution: what runs the algorithm, with its hyperparameters as they are.
    """

    def __init__(
        self,
        context: Context,
        scaling: Scaling,
        update_step: Callable[[Any, Any, Any], None],
    ):
        self._context = context
        self._of_groups: dict[str, Planning] = {}
        self._scaling = scaling
        self._update_step = update_step
        self._static: dict[str, Any] = {}
        self._scheduled: dict[str, Any] = {}
        self.execution: Execution

    def renew(self) -> None:
        """Makes what runs the algorithm anew, as hyperparameters have changed."""
        self._of_groups.clear()
        context, is_schedule = self._context, {}
        parameters = declarations.parameters_of(class_of(context.values))
        values = declarations.values_of(context.values, parameters)
        if context.values is not context.options:
            values |= shared_values(context.options)
        for name, value in values.items():
            is_schedule[name] = callable(value) and context.keras.is_schedule(value)
        self._static = {name: v for name, v in values.items() if not is_schedule[name]}
        self._scheduled = {name: v for name, v in values.items() if is_schedule[name]}
        self.execution = self._made()

    def _made(self) -> Execution:
        algorithm = self._context.algorithm
        is_pure = nature.is_pure(algorithm)
        cls = class_for(algorithm, "measure", "conclude")
        measured = measures.check_hooks(cls, Algorithm, is_pure=is_pure)
        cls = class_for(algorithm, "refresh", "refresh_every")
        refreshed = refreshes.check_hooks(cls, Algorithm, is_pure=is_pure)
        jit_compile = self._context.options.jit_compile
        arguments = (algorithm, self._update_step, self.static_scalars, jit_compile)
        return Execution(*arguments, has_measure=measured, has_refresh=refreshed)

    def of_group(self, group: str) -> "Planning":
        """Returns what plans the updates of a group; of the optimizer itself where it is ""."""
        if not group:
            return self
        if group not in self._of_groups:
            context = self._context.of_group(group)
            planning = Planning(context, self._scaling, self._update_step)
            planning.renew()
            self._of_groups[group] = planning
        return self._of_groups[group]

    @property
    def used(self) -> set[bool]:
        """Whether updates so far were compiled, of each kind that there was."""
        of_groups = (planning.execution.used for planning in self._of_groups.values())
        return self.execution.used.union(*of_groups)

    # Plans.

    def rule(self) -> Rule:
        """Returns how the algorithm updates variables, for their plans."""
        algorithm, values = self._context.algorithm, self._context.values
        is_pure, decay = nature.is_pure(algorithm), plans.L2
        if values.decoupled_weight_decay:
            in_update = is_pure and values.decays_in_update
            cautious = self._context.options.cautious_weight_decay
            decay = plans.CAUTIOUS if cautious else plans.DECOUPLED
            decay = plans.IN_UPDATE if in_update else decay
        jit_compile = self._context.options.jit_compile
        return Rule(is_pure, nature.can_fuse(algorithm), jit_compile, decay)

    def step_plan(self, given: Received) -> StepPlan:
        """Returns what a step does with its gradients, which carry the loss scale or not."""
        scaler = self._scaling.scaler
        examines = scaler is not None and scaler.active and not given.examined
        unscales = examines and given.scaled and self._scaling.has_scale
        watches = self._context.watch.is_on_here()
        options = self._context.options
        return plans.plan_step(options, examines=examines, unscales=unscales, watches=watches)

    def update_plan(
        self, entry: VariableState, rule: Rule, step: StepPlan, gradient: str = plans.GIVEN
    ) -> UpdatePlan:
        """Returns what an update of a variable does; arguments as for `plan_update`."""
        own = self.own(entry)
        return plans.plan_update(
            entry,
            rule,
            step,
            gradient,
            decay_name=own.decay_name if self._decays(entry, own) else None,
            traits=own.traits,
            compiles=kernels.compiles(),
        )

    def bare_plan(self, entry: VariableState, rule: Rule, gradient: str) -> UpdatePlan:
        """Returns the plan of an update by the algorithm alone, without any option."""
        own = options_for(self._context.algorithm, info_of(entry, False))
        compiles = kernels.compiles()
        return plans.plan_update(
            entry, rule, StepPlan(), gradient, traits=own.traits, compiles=compiles
        )

    def pace(self, entry: VariableState) -> refreshes.Pace | None:
        """Returns after which updates slots of a variable are refreshed, if they are."""
        if entry.overwrite or not self.execution.has_refresh:
            return None
        algorithm = self._context.algorithm
        if not refreshes.is_for(algorithm, self.own(entry).traits):
            return None
        return refreshes.pace_of(algorithm, entry.place)

    def rate_factor(self, entry: VariableState) -> float:
        """Returns the factor on a variable's learning rate, with that of its group."""
        return self.own(entry).rate_factor * entry.multiplier

    def own(self, entry: VariableState) -> VariableOptions:
        """Returns the per-variable settings of a variable."""
        decays = bool(self._context.values.weight_decay) and entry.decays
        return options_for(self._context.algorithm, info_of(entry, decays))

    def decays(self, entry: VariableState) -> bool:
        """Says whether weight decay applies to a variable."""
        return self._decays(entry, self.own(entry))

    def _decays(self, entry: VariableState, own: VariableOptions) -> bool:
        return bool(getattr(self._context.values, own.decay_name)) and entry.decays

    def check_sparse(self, entry: VariableState, gradient: Any) -> None:
        """Refuses a sparse gradient of a variable that takes none.

        Raises:
          ValueError: it takes none; the algorithm says why.
        """
        if not isinstance(gradient, tf.IndexedSlices):
            return
        reason = self.own(entry).not_sparse
        if reason is not None:
            raise ValueError(
                f"{self._context.title}: the gradient of variable {entry.path!r} is sparse "
                f"(`tf.IndexedSlices`), which is not possible: {reason}"
            )

    # Numbers.

    def rounding(self, entry: VariableState, updates: tf.Tensor) -> tf.Tensor:
        """Returns the seed of one update of one variable, int32 of shape [2]."""
        # By place, not by path: Keras gives a loaded model's variables other paths.
        place = zlib.crc32(str(entry.place).encode())
        own = (place ^ self._context.options.rounding_seed) & 0x3FFFFFFF
        return tf.stack([tf.constant(own, tf.int32), tf.cast(updates, tf.int32)])

    def with_seed(
        self, scalars: Mapping[str, tf.Tensor], entry: VariableState, updates: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        """Returns the scalars of one update of one variable, with a seed if it draws noise."""
        if not self._context.algorithm.draws_noise:
            return scalars
        own = zlib.crc32(f"noise {entry.place}".encode()) & 0x7FFFFFFF
        seed = tf.stack([tf.constant(own, tf.int32), tf.cast(updates, tf.int32)])
        return {**scalars, NOISE_SEED: seed}

    def static_scalars(self) -> dict[str, Any]:
        """Returns the hyperparameters that follow no schedule, by name."""
        return self._static

    def scalars(
        self,
        dtype: tf.DType,
        rate: Any,
        updates: tf.Tensor,
        asked: Mapping[str, tf.Tensor] | None = None,
        begun: VariableState | None = None,
        group: str = "",
        common: Any = None,
    ) -> dict[str, tf.Tensor]:
        """Returns what varies from step to step, as 0-d tensors of a dtype.

        Args:
          dtype: the dtype.
          rate: the learning rate.
          updates: the number of updates so far.
          asked: what was computed outside.
          begun: one of the variables that the scalars are for, where their slots came late.
          group: the group that they are for.
          common: the learning rate without the factors of single variables; by default `rate`.
        """
        asked, context = asked or {}, self._context
        total, carried = tf.cast(updates + 1, dtype), context.store.carried(group)
        scalars = {"learning_rate": tf.cast(rate, dtype), "step": total}
        if begun is not None and begun.begun is not None:
            before = distribution.local(begun.begun).read_value()
            scalars["step"], carried = tf.cast(updates + 1 - before, dtype), begun.carried
        for name, value in self._scheduled.items():
            if name not in asked:
                # Our schedules have more digits than Keras expects of one.
                source = getattr(value, "precise", value) if dtype.size > 4 else value
                value = self._value_of(source, updates, name)
            scalars[name] = tf.cast(asked.get(name, value), dtype)
        for name, variable in carried.items():
            scalars[name] = tf.cast(distribution.local(variable).read_value(), dtype)
        scalars |= products.advanced(context, scalars)
        with purity.watched(context.algorithm, "prepare"):
            shared = tf.cast(rate if common is None else common, dtype)
            only = {"total_step": total, "common_rate": shared}
            seen = Scalars(self._static, scalars | only)
            further = context.algorithm.prepare(seen)
        return scalars | {name: tf.cast(value, dtype) for name, value in further.items()}

    def _value_of(self, source: Any, updates: tf.Tensor, name: str) -> Any:
        """Returns what a schedule of a hyperparameter gives after a number of updates.

        Raises:
          TypeError: it cannot be traced. That of the optimizer itself is asked for outside
            of steps then; that of a group cannot be.
        """
        title = self._context.title
        try:
            return late_rates.value_of(source, updates, name, title)
        except late_rates.UntraceableError as error:
            if self._context.values is self._context.options:
                raise
            raise TypeError(f"In a group: {error}") from error
