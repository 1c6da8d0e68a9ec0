"""One update of one variable, as an `update_step` asks for it."""

import dataclasses
from typing import Any

import tensorflow as tf

from tf_keras_optim.engine import first_updates, kernels, patterns, plans, rows
from tf_keras_optim.engine import gradients as incoming
from tf_keras_optim.engine.plans import StepPlan, UpdateInputs


def update(optimizer: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
    """Updates one variable by the algorithm's `update`, with nothing around it.

    Args:
      optimizer: the optimizer.
      gradient: tensor of the variable's shape, or `tf.IndexedSlices`.
      variable: a variable that the optimizer was built with.
      learning_rate: 0-d tensor or number; the optimizer's own if it is `None`.

    Raises:
      TypeError: the algorithm uses numbers over all variables.
      ValueError: the variable is not known, or the gradient has another shape.
    """
    if optimizer._execution.has_measure:
        raise TypeError(
            f"{optimizer._title()}: `update_step` updates one variable, and `measure` of this "
            "algorithm needs all of them. Call `apply_gradients` with all variables."
        )
    entry = optimizer._entry(variable)
    if learning_rate is None:
        learning_rate = optimizer.learning_rate
    gradient = rows.tensors(gradient)
    with tf.control_dependencies(incoming.check([entry], [gradient])):
        gradient = incoming.in_shape(entry, gradient)
    source = plans.GIVEN
    if isinstance(gradient, tf.IndexedSlices):
        size = entry.variable.shape[0]
        lazy = patterns.by_pattern(optimizer.sparse, entry.path) == "lazy"
        source = plans.ROWS if lazy else plans.GIVEN
        if gradient.dtype.size < entry.dtype.size:
            gradient = tf.cast(gradient, entry.dtype)
        gradient = (rows.summed if lazy else rows.dense)(gradient, size)
    updates = optimizer._updates()
    traits, _ = optimizer._traits(entry, False)
    scalars = optimizer._dynamic_scalars(entry.dtype, learning_rate, updates, None, entry)
    rule = dataclasses.replace(optimizer._rule(), is_pure=True)
    compiles = kernels.compiles()
    plan = plans.plan_update(entry, rule, StepPlan(), source, traits=traits, compiles=compiles)
    seed = optimizer._rounding(entry, updates) if plan.rounds else None
    first_updates.begin([entry], {})
    optimizer._execution.run(entry, plan, UpdateInputs(gradient, scalars, seed=seed))
