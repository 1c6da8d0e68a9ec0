"""The numbers of an optimizer's last update by name, outside of functions."""

import math
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.options import calls_per_update
from tf_keras_optim.engine.state import evaluation
from tf_keras_optim.engine.step.scaling import Scaling
from tf_keras_optim.engine.step.watch import Measured
from tf_keras_optim.engine.tensorflow import distribution

OTHERS = "others"  # the group of variables that no pattern of `groups` is found in


def begin(context: Context, *, measures: bool) -> None:
    """Has steps measure from now on; warns where they cannot.

    Args:
      context: what the optimizer's parts share.
      measures: whether steps of this optimizer can measure.
    """
    begins = not context.watch.is_on
    context.watch.begin()
    if begins and not measures:
        warnings.warn(
            f"{context.title} takes steps in Keras' order, as its class overrides a part of "
            "Keras' step. They measure nothing: learning rate, norms and ratios stay NaN.",
            stacklevel=3,
        )


def collected(context: Context, scaling: Scaling, *, per_variable: bool) -> dict[str, float]:
    """Returns the numbers; NaN where the last update was not measured.

    Args:
      context: what the optimizer's parts share.
      scaling: its loss scale.
      per_variable: whether to give those of each variable, too.
    """
    updates = context.counter.updates_by_now()
    measured = context.watch.of_update(updates) if updates else None
    found = {"update": float(updates if measured is None else measured.number)}
    found |= _of_groups(context, measured)
    if per_variable:
        found |= _of_variables(context, measured)
    if _clips(context):
        clipped, counted = context.watch.clipped()
        found["clipped_updates"] = float(clipped)
        found["clipped_share"] = clipped / counted if counted else math.nan
    scaler = scaling.scaler
    if scaler is not None and scaler.active:
        if scaler.scale is not None:
            found["loss_scale"] = _number(scaler.scale)
        found["skipped_steps"] = _number(scaler.skipped)
        found["consecutive_skips"] = _number(scaler.consecutive)
    if evaluation.has_weights(context):
        found["evaluation_weights"] = float(evaluation.is_on(context))
    calls = calls_per_update(context.options)
    if calls > 1:
        found["accumulated_calls"] = float(context.counter.calls() % context.store.counted_by)
    return found


def _clips(context: Context) -> bool:
    options = context.options
    limits = (options.clipnorm, options.global_clipnorm, options.clipvalue)
    return any(limit is not None for limit in limits)


def _number(variable: tf.Variable) -> float:
    return float(distribution.local(variable).numpy())


def _of_groups(context: Context, measured: Measured | None) -> dict[str, float]:
    """Returns learning rates, gradient norm and ratios: of the whole, and of each group."""
    found = dict.fromkeys(("learning_rate", "gradient_norm", "update_ratio"), math.nan)
    places: dict[str, list[int]] = {}
    if measured is not None:
        found["learning_rate"] = measured.rates[""]
        found["gradient_norm"] = _together(measured.gradients)
        found["update_ratio"] = _ratio(measured, range(len(measured.entries)))
        for place, entry in enumerate(measured.entries):
            places.setdefault(_label(context, entry.path), []).append(place)
    labels = dict.fromkeys(_label(context, entry.path) for entry in context.store.tracked)
    if not set(labels) - {OTHERS}:
        return found
    for label in labels:
        rate = ratio = math.nan
        if measured is not None and label in places:
            entry = measured.entries[places[label][0]]
            rate = measured.rates[entry.group] * entry.multiplier
            ratio = _ratio(measured, places[label])
        found[f"learning_rate/groups/{label}"] = rate
        found[f"update_ratio/groups/{label}"] = ratio
    return found


def _label(context: Context, path: str) -> str:
    return context.grouping.label_of(path) or OTHERS


def _of_variables(context: Context, measured: Measured | None) -> dict[str, float]:
    """Returns gradient norm and ratio of each variable that is kept."""
    found: dict[str, float] = {}
    known = {} if measured is None else dict(_each(measured))
    for entry in context.store.tracked:
        gradient, ratio = known.get(entry.path, (math.nan, math.nan))
        found[f"gradient_norm/variables/{entry.path}"] = gradient
        found[f"update_ratio/variables/{entry.path}"] = ratio
    return found


def _each(measured: Measured) -> Iterator[tuple[str, tuple[float, float]]]:
    for place, entry in enumerate(measured.entries):
        gradient = float(measured.gradients[place])
        yield entry.path, (gradient, _ratio(measured, [place]))


def _together(norms: np.ndarray) -> float:
    """Returns the norm of what has these norms; NaN where one is not finite but no overflow."""
    return float(np.sqrt(np.sum(np.square(norms))))


def _ratio(measured: Measured, places: Iterable[int]) -> float:
    """Returns the norm of the change of some variables over that of their weights before."""
    chosen = list(places)
    change, weight = (_together(n[chosen]) for n in (measured.changes, measured.weights))
    if weight == 0.0:
        return 0.0 if change == 0.0 else math.inf if change > 0.0 else change
    return change / weight
