"""Products of decays that follow a schedule, which bias corrections need.

A moment whose decay is `beta` holds `1 - beta ** t` of what it averages. Where beta changes
from step to step that is one minus the product of all betas so far. Its logarithm is carried
from step to step, as the product itself would lose the digits that count.
"""

from collections.abc import Mapping

import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.numerics.formulas import log_product_key as key_of
from tf_keras_optim.engine.state.slots import Slot


def slots(context: Context) -> list[Slot]:
    """Returns the scalars that an optimizer carries: one for each corrected schedule."""
    scheduled = [
        n
        for n in context.algorithm.corrected
        if context.keras.is_schedule(getattr(context.values, n))
    ]
    return [Slot(key_of(name)) for name in scheduled]


def may_be_missing(context: Context) -> frozenset[str]:
    """Returns the scalars that states of earlier versions lack."""
    of_groups = {
        f"{entry.group}/{slot.name}"
        for entry in context.store.tracked
        if entry.group
        for slot in slots(context.of(entry))
    }
    return frozenset(slot.name for slot in slots(context)) | of_groups


def advanced(context: Context, scalars: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the products with the betas of this step.

    Where none was kept although there were steps before, in a state of an earlier version
    or with a beta that was constant so far, those had the beta of this step.

    Args:
      context: what the optimizer's parts share.
      scalars: the scalars of this step, with those that were carried.
    """
    found = {}
    for name in context.algorithm.corrected:
        before = scalars.get(key_of(name))
        if before is not None and name in scalars:
            new = tf.math.log(scalars[name])
            unknown = tf.logical_and(tf.equal(before, 0.0), scalars["step"] > 1.0)
            before = tf.where(unknown, (scalars["step"] - 1.0) * new, before)
            found[key_of(name)] = before + new
    return found
