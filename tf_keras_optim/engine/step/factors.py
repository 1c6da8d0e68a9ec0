"""What the gradients of an update are multiplied by: to unscale, average and clip them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_keras_optim.engine.numerics import formulas
from tf_keras_optim.engine.numerics.norms import Norms
from tf_keras_optim.engine.numerics.norms import norms as norms_of
from tf_keras_optim.engine.state.store import VariableState
from tf_keras_optim.engine.step.loss_scaler import FiniteCheck
from tf_keras_optim.engine.tensorflow import distribution, placement
from tf_keras_optim.engine.update import plans
from tf_keras_optim.engine.update.plans import StepPlan

# A gradient of `None` stands for the accumulated one.
Pairs = Sequence[tuple[VariableState, Any]]


class Factors(NamedTuple):
    """The factors of one update.

    Attributes:
      scales: for each gradient, as `formulas.conditioned` takes it; `None` for none.
      common: what unscales and averages all of them: a number, or a 0-d float64 tensor.
      norms: the norms of the gradients as they came, where a clip needs them; else `None`.
    """

    scales: list[tf.Tensor | None]
    common: Any = 1.0
    norms: Norms | None = None


def of_update(step: StepPlan, learned: Pairs, check: FiniteCheck | None) -> Factors:
    """Returns the factors of an update.

    Args:
      step: what the step does.
      learned: the variables and their gradients.
      check: what was found about the gradients, if they were looked at.
    """
    entries = [entry for entry, _ in learned]
    if not step.scales:
        return Factors([None] * len(entries))
    factor: Any = step.factor
    if check is not None and check.inverse is not None:
        factor = check.inverse * factor
    if step.limit is None or not entries:
        return Factors(
            _for_dtypes(entries, [tf.cast(factor, tf.float64)] * len(entries)), factor
        )
    gradients = [given(entry, gradient) for entry, gradient in learned]
    found = norms_of(gradients, check and check.squares, step.limit / factor)
    if step.clips == plans.TOGETHER:
        scales = formulas.clip_scales(found.total(), factor, step.limit)
        return Factors(_for_dtypes(entries, [scales[0]] * len(entries)), factor, found)
    scales = formulas.clip_scales(found, factor, step.limit)
    return Factors(_for_dtypes(entries, scales), factor, found)


def _for_dtypes(entries: Sequence[VariableState], scales: Any) -> list[tf.Tensor | None]:
    """Returns the n-th scale in the compute dtype of the n-th entry."""
    found = {}
    for dtype in {entry.dtype for entry in entries}:
        if tf.is_tensor(scales):
            found[dtype] = tf.unstack(tf.cast(scales, dtype))
        else:
            found[dtype] = [tf.cast(scales[0], dtype)] * len(entries)
    return [found[entry.dtype][number] for number, entry in enumerate(entries)]


def given(entry: VariableState, gradient: Any) -> tf.Tensor:
    """Returns the elements of a gradient: those of the rows that it names, or all."""
    if isinstance(gradient, tf.IndexedSlices):
        return gradient.values  # each row once; the others are zero
    if gradient is not None:
        return gradient
    accumulator = distribution.local(entry.accumulator)
    with placement.where(accumulator):
        return accumulator.read_value()
