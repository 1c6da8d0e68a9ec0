"""The number of calls that make an update, and the counter of calls that depends on it.

What counts is the number of updates. `iterations` keeps calls, as in Keras' layout, so it is
rewritten wherever the number of calls that make an update changes: between two updates.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_keras_optim.engine.context import Context
from tf_keras_optim.engine.options import calls_per_update
from tf_keras_optim.engine.tensorflow import distribution

STEPS = "gradient_accumulation_steps"  # the option, and its name in a saved state
_ACCUMULATOR = "gradient_accumulator"
_CALLS = ("scalars", "iterations")


def check_change(context: Context) -> None:
    """Refuses another number of calls between the calls that make one update.

    Raises:
      ValueError: some of them have been made.
    """
    before, new = context.store.counted_by, calls_per_update(context.options)
    begun = context.counter.calls() % before if before != new else 0
    if begun:
        raise ValueError(
            f"{context.title}: `{STEPS}` cannot change from {before} to {new} now: "
            f"{begun} of the {before} calls that make an update have been made. Change it "
            f"after {before - begun} more calls, when `optimizer.iterations` has increased, or "
            "call `optimizer.reset_state()` to start over."
        )


def recount(context: Context) -> None:
    """Rewrites the counter of calls where another number of them makes an update from now on.

    Raises:
      ValueError: some of the calls that make an update have been made.
    """
    store, new = context.store, calls_per_update(context.options)
    before = store.counted_by
    if before == new:
        return
    check_change(context)
    with tf.init_scope():
        calls = context.counter.calls() // before * new
        distribution.set_everywhere(store.iterations, np.int64(calls))
    store.awaited.recount(before, new)
    for entry in store.tracked:
        entry.averages_from = entry.averages_from // before * new
    store.counted_by = new
    context.traces.forget()


def calls_here(context: Context, state: Mapping[str, Any], calls: Any) -> Any:
    """Returns the counter of a saved state as it would be here, at as many updates."""
    saved, here = state.get(STEPS), context.store.counted_by
    if saved in (None, here):
        return calls
    return np.asarray(int(np.asarray(calls)) // saved * here, np.int64)


def converted(
    context: Context,
    state: Mapping[str, Any],
    here: Mapping[tuple[str, ...], tf.Variable],
    saved: Mapping[tuple[str, ...], Any],
) -> tuple[dict[tuple[str, ...], Any], str]:
    """Returns the saved arrays where another number of calls makes an update here.

    Gradients accumulated for the next update are left out.

    Args:
      context: what the optimizer's parts share.
      state: the saved state.
      here: the state variables here.
      saved: the saved arrays, by the keys that they have here.

    Returns:
      saved: the arrays; with an equal number, or one that is not known, those given.
      left_out: one line if gradients had been accumulated, otherwise an empty text.
    """
    steps, own = state.get(STEPS), context.store.counted_by
    if steps in (None, own) or _CALLS not in saved:
        return dict(saved), ""
    calls = int(np.asarray(saved[_CALLS]))
    found = {key: v for key, v in saved.items() if key[-1] != _ACCUMULATOR}
    for key, variable in here.items():
        if key[-1] == _ACCUMULATOR:
            found[key] = np.zeros(variable.shape, variable.dtype.as_numpy_dtype)
    found[_CALLS] = calls_here(context, state, calls)
    begun, line = calls % steps, ""
    if begun:
        line = (
            f"iterations: {begun} of the {steps} calls that make an update had been made "
            f"(`{STEPS}`={steps}, here {own}); their accumulated gradients are left out"
        )
    return found, line


def check_saved(state: Mapping[str, Any], title: str) -> None:
    """Checks the number of calls that make an update in a saved state.

    Raises:
      ValueError: it is not an integer of at least 1.
    """
    steps = state.get(STEPS)
    if steps is not None and not (type(steps) is int and steps >= 1):
        raise ValueError(
            f"{title}: the saved state has `{STEPS}`={steps!r}, which must be an integer of at "
            "least 1. It is damaged, or was changed by hand; nothing was changed. Load an "
            "earlier one."
        )


def restored(context: Context, steps: int | None) -> None:
    """Records how many calls make an update in the counter of a checkpoint.

    TensorFlow restores the counter after that; the next step rewrites it.

    Args:
      context: what the optimizer's parts share.
      steps: the number, `None` for the one here.
    """
    store = context.store
    store.counted_by = steps or calls_per_update(context.options)
    context.traces.forget_lookups()
    if store.counted_by == calls_per_update(context.options):
        return
    for entry in store.tracked:
        if entry.accumulator is not None:
            zeros = tf.zeros_like(distribution.local(entry.accumulator))
            distribution.set_everywhere(entry.accumulator, zeros)
    if context.traces.in_graph:
        warnings.warn(
            f"{context.title}: a checkpoint in which {steps} calls make an update was "
            "restored after a step had been traced into a function, which counts "
            f"{calls_per_update(context.options)}. Trace the function again, e.g. after "
            "`model.compile`.",
            stacklevel=5,
        )
