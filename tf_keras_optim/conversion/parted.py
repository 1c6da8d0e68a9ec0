"""Optimizers for groups of variables, from and to Keras' `MultiOptimizer`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import tf_keras_optim.conversion.foreign_private as foreign
from tf_keras_optim.conversion.optimizer_map import MultiOptimizer, OptimizerMap
from tf_keras_optim.engine import grouping
from tf_keras_optim.engine.options import shared_values
from tf_keras_optim.engine.patterns import exactly
from tf_keras_optim.engine.state.paths import path_of
from tf_keras_optim.keras_compat.running import keras

Convert = Callable[..., Any]


def has_parts(optimizer: Any) -> bool:
    """Says whether an optimizer is Keras' `MultiOptimizer`."""
    cls = getattr(keras.optimizers, "MultiOptimizer", None)
    return cls is not None and isinstance(optimizer, cls)


def from_keras(source: Any, options: Mapping[str, Any], title: str, convert: Convert) -> Any:
    """Returns an optimizer with groups, from Keras' one of several optimizers.

    Args:
      source: a `keras.optimizers.MultiOptimizer`.
      options: arguments that count more than those of the source's optimizers.
      title: what it is, for messages.
      convert: makes one of ours from one of Keras'.

    Raises:
      ValueError: it has no default optimizer, or its optimizers have taken other numbers of
        steps.
    """
    mapped = foreign.optimizer_map(source)
    default = getattr(mapped, "default_optimizer", None)
    if default is None:
        raise ValueError(
            f"{title}: a function assigns its variables, and that has no counterpart. Give "
            "Keras an `OptimizerMap`, or write `groups=` for one of our optimizers."
        )
    # What belongs to the whole step is given to the whole.
    parts = {id(o): convert(o, loss_scale_factor=None) for o in (default, *mapped.values())}
    fresh = {key: grouping.like(part) for key, part in parts.items()}
    whole = MultiOptimizer(
        OptimizerMap(fresh[id(default)], {key: fresh[id(o)] for key, o in mapped.items()}),
        source.loss_scale_factor,
        source.name,
    )
    for name, value in options.items():
        setattr(whole, name, value)
    if not foreign.is_built(source):
        return whole
    whole.build(foreign.variables(source))
    updates = int(np.asarray(source.iterations))
    state = {**whole.state_dict(), "weights": {}}
    state["scalars"] = {**state["scalars"], "iterations": np.asarray(updates)}
    places = {id(entry.variable): entry for entry in whole.tko.store.tracked}
    for part in parts.values():
        if not part.built:
            continue
        if part.tko.counter.calls() not in (0, updates):
            raise ValueError(
                f"{title}: it has taken {updates} steps, and {part.tko.title} "
                f"{part.tko.counter.calls()} of them. Groups share one count."
            )
        own = part.state_dict()
        for entry in part.tko.store.tracked:
            here = places[id(entry.variable)]
            state["variables"][here.path] = own["variables"][entry.path]
            prefix = f"{here.group}/" if here.group else ""
            for name in part.tko.store.step_slots:
                state["scalars"][f"{prefix}{name}"] = own["scalars"][name]
    whole.load_state_dict(state)
    return whole


def to_keras(optimizer: Any, title: str, convert: Convert) -> Any:
    """Returns Keras' one of several optimizers, from one with groups.

    Args:
      optimizer: one of ours, with groups, built.
      title: what it is, for messages.
      convert: makes one of Keras' from one of ours.

    Raises:
      ValueError: Keras has no `MultiOptimizer`, the groups share a norm or some do not move, or
        the optimizer is not built, so that it is not known what a pattern is found in.
    """
    cls = getattr(keras.optimizers, "MultiOptimizer", None)
    if cls is None:
        raise ValueError(f"{title}: {keras.__name__} has no `MultiOptimizer` for its `groups`.")
    store = optimizer.tko.store
    if not store.is_built or store.frozen or optimizer.global_clipnorm is not None:
        raise ValueError(
            f"{title}: its `groups` can be converted where it is built, no group is `None`, "
            "and `global_clipnorm`, which Keras takes for each group alone, is not set."
        )
    made: dict[tuple, Any] = {}
    paths: dict[tuple, list[str]] = {}
    for entry in store.tracked:
        key = (entry.group, entry.multiplier)
        paths.setdefault(key, []).append(path_of(entry.public))
    flat = [path for group in paths.values() for path in dict.fromkeys(group)]
    if len(flat) != len(set(flat)):
        raise ValueError(
            f"{title}: variables of several groups have the same path, by which Keras tells "
            "its optimizers. Give the layers names of their own."
        )
    for key in paths:
        made[key] = convert(_alone(optimizer, *key))
    first, *others = made
    mapped = keras.optimizers.OptimizerMap(
        made[first], {exactly(paths[key]): made[key] for key in others}
    )
    whole = cls(mapped, loss_scale_factor=optimizer.loss_scale_factor, name=optimizer.name)
    whole.build([entry.public for entry in store.tracked])
    whole.iterations.assign(int(store.iterations.numpy()))
    return whole


def _alone(optimizer: Any, label: str, multiplier: float) -> Any:
    """Returns one group of an optimizer as an optimizer of its own, with its state."""
    parts = optimizer.tko
    entries = [e for e in parts.store.tracked if (e.group, e.multiplier) == (label, multiplier)]
    part = grouping.like(parts.grouping.of(label).algorithm)
    part.groups = None
    for name, value in shared_values(optimizer).items():
        if name not in ("groups", "loss_scale_factor"):
            setattr(part, name, value)
    if parts.store.rate_source is not None or part.tko.store.rate_source is not None:
        raise ValueError(
            f"{parts.title}: groups whose learning rates follow schedules cannot be converted. "
            "Assign numbers first."
        )
    part.learning_rate = float(parts.rate.of(entries[0], parts.counter.updates()))
    part.build([entry.public for entry in entries])
    saved, own = optimizer.state_dict(), part.state_dict()
    for entry, here in zip(entries, part.tko.store.tracked):
        own["variables"][here.path] = saved["variables"][entry.path]
    own["scalars"]["iterations"] = saved["scalars"]["iterations"]
    prefix = f"{label}/" if label else ""
    for name in part.tko.store.step_slots:
        own["scalars"][name] = saved["scalars"][f"{prefix}{name}"]
    part.load_state_dict({**own, "class_name": type(part).__name__})
    return part
