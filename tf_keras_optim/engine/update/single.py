"""One update of one variable, as an `update_step` asks for it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.options import is_lazy
from tf_keras_optim.engine.state import first_updates
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step import gradients as incoming
from tf_keras_optim.engine.step.admission import Admission
from tf_keras_optim.engine.step.planning import Planning
from tf_keras_optim.engine.update import plans, rows
from tf_keras_optim.engine.update.plans import UpdateInputs


def update(
    context: Context,
    admission: Admission,
    planning: Planning,
    gradient: Any,
    variable: Any,
    rate_at: Callable[[VariableState, tf.Tensor], Any],
) -> None:
    """Updates one variable by the algorithm's `update`, with nothing around it.

    Args:
      context: what the optimizer's parts share.
      admission: finds the variable.
      planning: runs the algorithm.
      gradient: tensor of the variable's shape, or `tf.IndexedSlices`.
      variable: a variable that the optimizer was built with.
      rate_at: returns the learning rate of a variable after a number of updates.

    Raises:
      TypeError: the algorithm uses numbers over all variables, or refreshes slots; or slots
        are divided among replicas.
      ValueError: the variable is not known, or the gradient has another shape.
    """
    if context.sharding.is_on:
        raise TypeError(
            f"{context.title}: `update_step` updates a variable in each replica, and with "
            "`shard_slots`=True one replica alone has its slots. Call `apply_gradients`."
        )
    _refuse_parts_of_steps(context, planning)
    entry = admission.entry_of(variable)
    planning = planning.of_group(entry.group)
    _refuse_parts_of_steps(context, planning)
    gradient = rows.tensors(gradient)
    planning.check_sparse(entry, gradient)
    with tf.control_dependencies(incoming.check([entry], [gradient])):
        lazy = is_lazy(context.options, entry.path)
        gradient = incoming.taken(entry, gradient, keeps_rows=lazy)
    updates = context.counter.updates()
    rate, group = rate_at(entry, updates), entry.group
    found = planning.scalars(entry.dtype, rate, updates, None, entry, group)
    scalars = planning.with_seed(found, entry, updates)
    rule = dataclasses.replace(planning.rule(), is_pure=True)
    plan = planning.bare_plan(entry, rule, plans.source_of(gradient))
    seed = planning.rounding(entry, updates) if plan.rounds else None
    first_updates.begin([entry], {})
    planning.execution.run(entry, plan, UpdateInputs(gradient, scalars, seed=seed))


def _refuse_parts_of_steps(context: Context, planning: Planning) -> None:
    """Refuses an algorithm that needs more of a step than one variable's update.

    Raises:
      TypeError: it does.
    """
    if planning.execution.has_measure:
        raise TypeError(
            f"{context.title}: `update_step` updates one variable, and `measure` of this "
            "algorithm needs all of them. Call `apply_gradients` with all variables."
        )
    if planning.execution.has_refresh:
        raise TypeError(
            f"{context.title}: `update_step` updates one variable, and `refresh` of this "
            "algorithm belongs to a whole step. Call `apply_gradients`."
        )
