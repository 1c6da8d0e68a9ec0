"""What an algorithm does every few updates: new values of slots, outside of the kernels.

It is done for every variable that is kept, with a gradient in this step or without: where
variables take turns, no number of updates would otherwise suit all of them. All that are due
after the same updates share one condition.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.numerics import loops
from tf_keras_optim.engine.state import late
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step.planning import Planning
from tf_keras_optim.engine.step.step_scalars import StepScalars
from tf_keras_optim.engine.tensorflow import distribution
from tf_keras_optim.engine.update import refreshes
from tf_keras_optim.engine.update.refreshes import Pace


@dataclasses.dataclass(frozen=True)
class Together:
    """Variables whose slots are refreshed after the same updates.

    Attributes:
      pace: after which ones, counted from where their slots began.
      first: one of the variables, where their slots came late.
      jobs: the variables and the scalars of this step.
    """

    pace: Pace
    first: VariableState | None
    jobs: list[tuple[VariableState, Mapping[str, tf.Tensor]]]


def plan(
    context: Context,
    planning: Planning,
    begun: Mapping[int, VariableState],
    scalars: StepScalars,
) -> list[Together]:
    """Returns which variables' slots are refreshed together.

    Called before what is carried to the next step moves, as the scalars depend on that.

    Args:
      context: what the optimizer's parts share.
      planning: says after which updates.
      begun: what `late.together` returned.
      scalars: those of this step.
    """
    found: dict[tuple, Together] = {}
    for entry in context.store.tracked:
        own = planning.of_group(entry.group)
        pace = own.pace(entry)
        if pace is None:
            continue
        first = begun.get(id(entry))
        kind = late.Kind(entry.dtype, own.rate_factor(entry), first, entry.group)
        together = found.setdefault((pace, id(first)), Together(pace, first, []))
        together.jobs.append((entry, scalars.of(kind)))
    return list(found.values())


def run(
    context: Context, planning: Planning, planned: Sequence[Together], updates: tf.Tensor
) -> None:
    """Refreshes the slots that are due after this update.

    Args:
      context: what the optimizer's parts share.
      planning: has the algorithms.
      planned: what `plan` returned.
      updates: the number of updates before this one.
    """
    for together in planned:
        count = updates + 1
        if together.first is not None and together.first.begun is not None:
            count -= distribution.local(together.first.begun).read_value()
        act = functools.partial(_refresh, context, planning, together)
        loops.choose(together.pace.due(count), act)


def _refresh(context: Context, planning: Planning, together: Together) -> None:
    for entry, scalars in together.jobs:
        own = planning.of_group(entry.group)
        static = own.static_scalars() | dict(own.own(entry).traits)
        refreshes.refresh(context.of(entry).algorithm, entry, static, scalars)
