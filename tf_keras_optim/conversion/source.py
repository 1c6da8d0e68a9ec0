"""What is known of an optimizer of another library, and making one of ours from it."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tf_keras_optim.conversion.positions as positions
from tf_keras_optim.engine.state import named_state
from tf_keras_optim.engine.state.named_state import Key
from tf_keras_optim.engine.state.paths import path_of
from tf_keras_optim.engine.state.saved_arrays import kept
from tf_keras_optim.engine.state.slots import STARTED
from tf_keras_optim.engine.step import accumulation
from tf_keras_optim.keras_compat.keras_private_variables import inside_autocast
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers import Optimizer
from tf_keras_optim.optimizers.records import keras_form

_IS_KERAS_3 = not keras.__name__.startswith("tf_keras")


@dataclasses.dataclass
class Source:
    """An optimizer of another library.

    Attributes:
      title: what it is, for messages.
      cls: our class.
      arguments: what our class is created with.
      variables: its model variables, in order, where it knows them.
      names: what it calls them, where it knows names.
      decays: for each variable whether it decays; `None`: all do.
      undecayed: regular expressions; variables with such paths do not decay.
      template: an optimizer of ours whose exclusions from decay hold, or `None`.
      generation: 3, or 2 for tf_keras, whose order `arrays` has; `None` if not known.
      arrays: its state in Keras' order, `None` if it has none in that form.
      slots: its state by our slots' names, a dict for each variable, or `None`.
      scalars: numbers of its state by our names.
      steps: how many of the calls that it counts make an update.
      loss_scale: arguments of the LossScaleOptimizer around it, or `None`.
      scale_state: the state of that, by our names.
    """

    title: str
    cls: type[Optimizer]
    arguments: dict[str, Any]
    variables: list[Any] | None = None
    names: list[str] | None = None
    decays: list[bool] | None = None
    undecayed: list[str] = dataclasses.field(default_factory=list)
    template: Any = None
    generation: int | None = None
    arrays: Sequence[np.ndarray | None] | None = None
    slots: list[dict[str, np.ndarray]] | None = None
    scalars: dict[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = 1
    loss_scale: dict[str, Any] | None = None
    scale_state: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def has_state(self) -> bool:
        """Whether it was built."""
        return self.arrays is not None or self.slots is not None


def finished(
    source: Source, variables: Iterable[Any] | None, options: Mapping[str, Any]
) -> Any:
    """Returns an optimizer of ours with the source's configuration and state.

    Args:
      source: what is known.
      variables: the model variables in the source's order, `None` for its own.
      options: arguments that count more than the source's.

    Raises:
      ValueError: the variables are missing, or do not fit the state.
    """
    optimizer = source.cls.from_config(source.arguments | dict(options))
    outer = optimizer
    if source.loss_scale is not None:
        outer = LossScaleOptimizer(optimizer, **source.loss_scale)
    known = None if variables is None else list(variables)
    if known is None and source.variables is not None:
        known = [_adopted(variable) for variable in source.variables]
    _exclude(source, optimizer, known)
    if not source.has_state:
        if known is not None:
            optimizer.build(known)
        return outer
    if known is None:
        raise ValueError(
            f"{source.title}: the state does not hold the model's variables. Pass them as "
            "`variables`, in the order in which the source got them, e.g. "
            "`model.trainable_variables`."
        )
    _check_variables(source, known)
    optimizer.build(known)
    if source.arrays is not None:
        found = positions.matched(optimizer, source.arrays, source.generation, source.title)
    else:
        found = _by_slot(source, optimizer)
    found = {("scalars", name): value for name, value in source.scalars.items()} | found
    found |= {("scalars", name): value for name, value in source.scale_state.items()}
    updates = int(found.get(("scalars", "iterations"), 0)) // source.steps
    for name, value in keras_form(source.cls).unsaved.items():
        if ("scalars", name) not in found:
            found["scalars", name] = value(source.arguments, updates)
    if "learning_rate" in options:
        found.pop(positions.RATE, None)
    _load(optimizer, found, source.title, source.steps)
    return outer


def _adopted(variable: Any) -> Any:
    """Returns a variable in a form that optimizers of the running Keras take."""
    if _IS_KERAS_3:
        return inside_autocast(variable)
    value = getattr(variable, "value", None)
    return value if isinstance(value, tf.Variable) else variable


def _exclude(source: Source, optimizer: Any, variables: list[Any] | None) -> None:
    excluded: list[Any] = []
    if source.decays is not None and variables is not None:
        pairs = zip(variables, source.decays)
        excluded = [variable for variable, decays in pairs if not decays]
    if source.template is not None:
        optimizer.tko.builder.exclusions = source.template.tko.builder.exclusions
    elif excluded or source.undecayed:
        optimizer.exclude_from_weight_decay(excluded, source.undecayed)


def _check_variables(source: Source, variables: list[Any]) -> None:
    """Compares variables with those that the source knows.

    Raises:
      ValueError: number, shapes or last names differ; every difference is listed.
    """
    own = source.variables or []
    shapes = [tuple(variable.shape) for variable in own] or None
    names = source.names or [path_of(variable) for variable in own] or None
    count = len(source.slots or names or source.decays or variables)
    lines = []
    for i in range(max(count, len(variables))):
        here = "nothing"
        if i < len(variables):
            here = f"{path_of(variables[i])} {tuple(variables[i].shape)}"
        there = "nothing"
        if i < count:
            there = names[i] if names else f"variable {i}"
            there += f" {shapes[i]}" if shapes else ""
        both = i < count and i < len(variables)
        if not both or (shapes and shapes[i] != tuple(variables[i].shape)):
            lines.append(f"{i}: source {there}, given {here}")
        elif names and _last(names[i]) != _last(path_of(variables[i])):
            lines.append(f"{i}: source {there}, given {here} (another name)")
    if lines:
        listed = "\n  ".join(lines[:20])
        raise ValueError(
            f"{source.title}: argument `variables` does not fit the source:\n  {listed}\nGive "
            "the model's trainable variables in the order in which the source got them; last "
            "names and shapes must agree."
        )


def _last(name: str) -> str:
    """Returns the last part of a name, without the number that Keras may add."""
    head, _, tail = name.split("/")[-1].rpartition("_")
    return head if head and tail.isdigit() else name.split("/")[-1]


def _by_slot(source: Source, optimizer: Any) -> dict[Key, np.ndarray]:
    """Returns a state that is known by slot, by what our state calls it."""
    found: dict[Key, np.ndarray] = {}
    for entry, slots in zip(optimizer.tko.store.tracked, source.slots or ()):
        for name, value in slots.items():
            found["variables", entry.path, name] = kept(value)
    return found


def _load(optimizer: Any, found: Mapping[Key, Any], title: str, steps: int) -> None:
    """Gives a fresh optimizer its state.

    Raises:
      ValueError: something is missing, is too much, or has another shape.
    """
    here = named_state.collect(optimizer.tko.context)
    state: dict[str, Any] = {
        **named_state.header(optimizer.tko.context),
        accumulation.STEPS: steps,
        "scalars": {},
        "variables": {entry.path: {} for entry in optimizer.tko.store.tracked},
        "extra": {},
    }
    lines = []
    for key, value in found.items():
        value = kept(value)
        if key == positions.RATE and key not in here:
            continue  # the caller asked for a schedule instead
        if key not in here:
            lines.append(f"{' '.join(key[1:])} {value.shape}: not kept here")
        elif tuple(here[key].shape) != value.shape:
            lines.append(
                f"{' '.join(key[1:])}: source {value.shape}, here {tuple(here[key].shape)}"
            )
        else:
            dtype = here[key].dtype.as_numpy_dtype
            _put(state, key, value.astype(dtype, copy=False))
    # A slot that starts from the weight has started where the source has it.
    slots = ((key, (*key[:-1], key[-1].removesuffix(STARTED))) for key in here)
    state_of = {key: slot for key, slot in slots if slot != key and slot in found}
    for key in state_of:
        _put(state, key, np.ones([], here[key].dtype.as_numpy_dtype))
    found = {**found, **state_of}
    unsaved = ("master", "gradient_accumulator") if steps == 1 else ("master",)
    needed = [key for key in here if key[0] == "variables" and key[2] not in unsaved]
    lines += [f"{' '.join(key[1:])}: not in the source" for key in needed if key not in found]
    if lines:
        listed = "\n  ".join(lines[:20])
        raise ValueError(
            f"{title}: its state does not fit {optimizer.tko.title}:\n  {listed}\nGive the "
            "variables that belong to it, and the options it was created with."
        )
    for key in here:
        if key not in found:
            _put(state, key, here[key].numpy())
    optimizer.load_state_dict(state)


def _put(state: dict[str, Any], key: Key, value: Any) -> None:
    """Sets what stands under a key in a state dict."""
    section = state
    for part in key[:-1]:
        section = section[part]
    section[key[-1]] = value
