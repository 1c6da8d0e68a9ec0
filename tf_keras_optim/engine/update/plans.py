"""What a step and each of its updates are, decided once, as data.

The step asks a plan which tensors to compute, the executors do what it says and keep their
functions by it, and `explain` prints it. TensorFlow's training operation runs only where the
plan equals the plain one, so an option that is added here is never left out in silence.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

from tf_keras_optim.engine.state import lookahead
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.tensorflow import distribution, xla
from tf_keras_optim.engine.update import kernel_choice
from tf_keras_optim.engine.variable_hooks import WEIGHT_DECAY

GIVEN, ACCUMULATED, ROWS = "given", "accumulated", "rows"  # where the gradient comes from
ONE_BY_ONE, TOGETHER = "one_by_one", "together"  # which norms are clipped
# Kinds of weight decay.
DECOUPLED, CAUTIOUS, L2, IN_UPDATE = "decoupled", "cautious", "l2", "in_update"
OVERWRITE, UPDATE_STEP = "overwritten", "update_step"  # what updates, beside the kernels


def source_of(gradient: Any) -> str:
    """Returns where an update's gradient comes from; `None` stands for the accumulated one."""
    if gradient is None:
        return ACCUMULATED
    return ROWS if isinstance(gradient, tf.IndexedSlices) else GIVEN


class StepOptions(Protocol):
    """The options of an optimizer that a step plan is made of."""

    clipnorm: float | None
    global_clipnorm: float | None
    clipvalue: float | None
    centralize_gradients: bool
    cautious: bool
    lookahead_steps: int | None
    use_ema: bool
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """What one call of the step does with all of its gradients.

    Attributes:
      calls: the number of calls that make an update.
      examines: whether it looks for gradients that are not finite, and leaves them out.
      unscales: whether the gradients carry a dynamic loss scale, which is divided out.
      factor: the number that every gradient is multiplied by: it unscales and averages.
      clips: "one_by_one" or "together": which L2 norms are limited; `None` for none.
      limit: their limit.
      clipvalue: the limit of each element's size, or `None`.
      centralizes: whether gradients with two axes or more lose their mean.
      masks: whether steps are taken only where they go against the gradient.
      looks_every: after how many updates the variables meet their slow weights, or `None`.
      averages: whether moving averages of the variables are kept.
      overwrites_every: after how many updates the variables take their averages over.
      watches: whether it measures what it does, for whoever watches the run.
    """

    calls: int = 1
    examines: bool = False
    unscales: bool = False
    factor: float = 1.0
    clips: str | None = None
    limit: float | None = None
    clipvalue: float | None = None
    centralizes: bool = False
    masks: bool = False
    looks_every: int | None = None
    averages: bool = False
    overwrites_every: int | None = None
    watches: bool = False

    @property
    def scales(self) -> bool:
        """Whether an update multiplies its gradient: by all of the above but `clipvalue`."""
        # What is accumulated was unscaled before.
        return bool(self.clips) or (self.unscales and self.calls == 1) or self.factor != 1.0


def plan_step(
    options: StepOptions, *, examines: bool, unscales: bool, watches: bool = False
) -> StepPlan:
    """Returns what a step does.

    Args:
      options: the optimizer's options.
      examines: whether it looks for gradients that are not finite.
      unscales: whether its gradients carry a dynamic loss scale.
      watches: whether it measures what it does.
    """
    calls = options.gradient_accumulation_steps or 1
    clips, limit = None, options.clipnorm
    if limit is not None:
        clips = ONE_BY_ONE
    elif options.global_clipnorm is not None:
        clips, limit = TOGETHER, options.global_clipnorm
    return StepPlan(
        calls=calls,
        examines=examines,
        unscales=unscales,
        factor=1.0 / ((options.loss_scale_factor or 1.0) * calls),
        clips=clips,
        limit=limit,
        clipvalue=options.clipvalue,
        centralizes=options.centralize_gradients,
        masks=options.cautious,
        looks_every=options.lookahead_steps,
        averages=options.use_ema,
        overwrites_every=(options.ema_overwrite_frequency or None) if options.use_ema else None,
        watches=watches,
    )


@dataclasses.dataclass(frozen=True)
class Rule:
    """How an algorithm updates variables, as far as a plan goes by it.

    Attributes:
      is_pure: whether it is an `update`, and not a user-written `update_step`.
      can_fuse: whether a training operation of TensorFlow computes the same.
      jit_compile: "auto", True or False.
      decay: the kind of weight decay, or `None`.
    """

    is_pure: bool
    can_fuse: bool
    jit_compile: str | bool
    decay: str | None


@dataclasses.dataclass(frozen=True)
class UpdatePlan:
    """What one update of one variable does. The defaults are the plain one.

    Attributes:
      gradient: "given", "accumulated" (and set to zero then), or "rows": some rows of it.
      scales: whether the gradient is multiplied by a tensor first.
      clipvalue: the limit of each element's size, or `None`.
      centralizes: whether the gradient loses its mean over all axes but the last.
      decay: kind of weight decay: "decoupled", "cautious" (after the step, of what that moves
        towards 0), "l2", "in_update" (by the algorithm itself); `None` for none.
      decay_name: the hyperparameter that is the weight decay.
      masks: whether the step is taken only where it goes against the gradient.
      keeps_slow: whether slow weights are kept, which the variable meets in some updates.
      averages: whether a moving average is kept.
      overwrites: whether the variable takes its average over in some updates.
      rounds: whether something is rounded stochastically, by a seed.
      keeps_master: whether the variable's value is kept with all its digits beside it.
      converts: whether something is kept in another dtype than that of the arithmetic.
      traits: what the algorithm says of this variable alone: pairs of name and value.
      kernel: "fused", "xla" or "graph" for an `update`, "update_step", or "overwritten": by
        its gradient.
    """

    gradient: str = GIVEN
    scales: bool = False
    clipvalue: float | None = None
    centralizes: bool = False
    decay: str | None = None
    decay_name: str = WEIGHT_DECAY
    masks: bool = False
    keeps_slow: bool = False
    averages: bool = False
    overwrites: bool = False
    rounds: bool = False
    keeps_master: bool = False
    converts: bool = False
    traits: tuple[tuple[str, Any], ...] = ()
    kernel: str = kernel_choice.GRAPH


def plan_update(
    entry: VariableState,
    rule: Rule,
    step: StepPlan,
    gradient: str = GIVEN,
    *,
    decay_name: str | None = None,
    traits: Mapping[str, Any] | None = None,
    compiles: bool = True,
) -> UpdatePlan:
    """Returns what an update of a variable does where it is called.

    Args:
      entry: the variable.
      rule: how the algorithm updates.
      step: what the step does.
      gradient: where the gradient comes from.
      decay_name: the hyperparameter that is its weight decay, `None` where it does not decay.
      traits: what the algorithm says of it alone.
      compiles: whether there may be compiled kernels here.
    """
    if entry.overwrite:
        return UpdatePlan(gradient, kernel=OVERWRITE)
    kept = [entry.variable, *entry.slots.values()]
    plan = UpdatePlan(
        gradient=gradient,
        scales=step.scales,
        clipvalue=step.clipvalue,
        centralizes=step.centralizes and entry.variable.shape.rank >= 2,
        decay=rule.decay if decay_name else None,
        decay_name=decay_name or WEIGHT_DECAY,
        masks=step.masks,
        keeps_slow=lookahead.SLOT in entry.declared,
        averages=step.averages,
        overwrites=step.overwrites_every is not None,
        rounds=entry.rounds,
        keeps_master=entry.master is not None,
        converts=any(variable.dtype != entry.dtype for variable in kept),
        traits=tuple(sorted((traits or {}).items())),
    )
    if not rule.is_pure:
        return dataclasses.replace(plan, kernel=UPDATE_STEP)
    if gradient == ROWS:
        return plan  # their number varies from step to step: nothing to compile
    device = distribution.local(entry.variable).device
    device_type = tf.DeviceSpec.from_string(device).device_type if device else "CPU"
    jit_compile = rule.jit_compile if compiles else False
    if jit_compile is not False and not xla.can_compile(entry.variable.dtype, device_type):
        _refuse_compilation(entry, jit_compile)
        jit_compile = False
    kernel = kernel_choice.choose(
        jit_compile,
        device_type,
        in_xla=distribution.in_xla(),
        fused=rule.can_fuse and plan == UpdatePlan(),
    )
    return dataclasses.replace(plan, kernel=kernel)


def _refuse_compilation(entry: VariableState, jit_compile: str | bool) -> None:
    if jit_compile is True and not distribution.in_xla():
        raise ValueError(
            f"Variable {entry.path!r} is {entry.variable.dtype.name}, which XLA cannot compile "
            "on this processor, and `jit_compile`=True asks for it. Use `jit_compile`='auto', "
            "which compiles the updates of the other variables, or keep the weights in float32 "
            "(as the policy 'mixed_float16' does)."
        )


@dataclasses.dataclass(frozen=True)
class UpdateInputs:
    """The tensors of one update of one variable; its plan says which are there.

    Attributes:
      gradient: the gradient, or slices of which no row stands twice; `None` where it is the
        accumulated one.
      scalars: scalars of the rule, in the compute dtype.
      scale: factor on the gradient, as `formulas.conditioned` takes it.
      lookahead_due: whether the variable meets its slow weight now, 0-d bool.
      ema_momentum: momentum of the moving average, 0-d float64.
      ema_share: 1 - `ema_momentum`, 0-d float64.
      ema_overwrite: whether the variable takes the average over now, 0-d bool.
      seed: for stochastic rounding, int32 [2].
    """

    gradient: Any
    scalars: Mapping[str, tf.Tensor]
    scale: tf.Tensor | None = None
    lookahead_due: tf.Tensor | None = None
    ema_momentum: tf.Tensor | None = None
    ema_share: tf.Tensor | None = None
    ema_overwrite: tf.Tensor | None = None
    seed: tf.Tensor | None = None

    def with_scalars(self, further: Mapping[str, tf.Tensor]) -> "UpdateInputs":
        """Returns these inputs with further scalars, in the dtype of the others."""
        if not further:
            return self
        dtype = self.scalars["learning_rate"].dtype
        new = {name: tf.cast(scalar, dtype) for name, scalar in further.items()}
        return dataclasses.replace(self, scalars={**self.scalars, **new})

    def options(self) -> dict[str, tf.Tensor]:
        """Returns the tensors beside gradient and scalars, without those that are not there."""
        given = ("gradient", "scalars")
        names = (field.name for field in dataclasses.fields(self) if field.name not in given)
        found = {name: getattr(self, name) for name in names}
        return {name: tensor for name, tensor in found.items() if tensor is not None}


class Executor(Protocol):
    """What updates a variable as a plan says."""

    def run(self, entry: VariableState, plan: UpdatePlan, inputs: UpdateInputs) -> None:
        """Updates a variable, its slots and its average."""
