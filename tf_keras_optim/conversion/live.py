"""What is known of a live Keras optimizer, of either generation."""

import re
from typing import Any

import numpy as np

import tf_keras_optim.conversion.configs as configs
import tf_keras_optim.conversion.foreign_private as foreign
from tf_keras_optim.conversion.source import Source
from tf_keras_optim.keras_compat.keras_private_variables import inside_autocast
from tf_keras_optim.optimizers.records import keras_form


def generation_of(optimizer: Any) -> int | None:
    """Returns 3 or 2 for an optimizer of Keras 3 or tf_keras, else `None`."""
    names = {"keras": 3, "tf_keras": 2}
    found = (names.get(cls.__module__.split(".")[0]) for cls in type(optimizer).__mro__)
    return next((generation for generation in found if generation), None)


def title_of(optimizer: Any) -> str:
    """Returns what an optimizer is, for messages: "tf_keras Adam 'Adam'"."""
    package = {3: "Keras 3", 2: "tf_keras"}.get(generation_of(optimizer) or 0, "")
    return f"{package} {type(optimizer).__name__} {foreign.name_of(optimizer)!r}".strip()


def from_keras(optimizer: Any, variables: list[Any] | None, options: Any) -> Source:
    """Returns what is known of an optimizer of `keras.optimizers` or tf_keras' new ones.

    Args:
      optimizer: the optimizer.
      variables: the model variables, if the caller gave them.
      options: arguments that will count more than its own.

    Raises:
      ValueError: its class is none of Keras' own, or none that we have; or the
        variables are those that it was built with, in another order.
    """
    title = title_of(optimizer)
    if type(optimizer).__module__.split(".")[0] not in ("keras", "tf_keras"):
        raise ValueError(
            f"{title}: {type(optimizer).__name__} is a class of your own, whose update may "
            "differ from its base class'. Only Keras' own classes can be converted."
        )
    config = optimizer.get_config()
    rate = foreign.rate(optimizer)
    if callable(rate) and not hasattr(rate, "assign"):
        config["learning_rate"] = rate
    name = type(optimizer).__name__
    cls, arguments = configs.keras_arguments(name, config, title, options)
    source = Source(title, cls, arguments, generation=generation_of(optimizer))
    source.steps = config.get("gradient_accumulation_steps") or 1
    if source.generation == 2:
        source.undecayed = foreign.excluded_names(optimizer)
    if not foreign.is_built(optimizer):
        return source
    listed = optimizer.variables
    listed = listed() if callable(listed) else listed
    source.arrays = [np.asarray(variable.numpy()) for variable in listed]
    for ours, theirs in keras_form(cls).scalars.items():
        source.scalars[ours] = np.asarray(foreign.scalar(optimizer, theirs).numpy())
    if source.generation == 3:
        source.variables = foreign.variables(optimizer)
        source.decays = [foreign.decays(optimizer, v) for v in source.variables]
    else:
        _add_variables_of_keras_2(source, optimizer, listed, variables)
    return source


def _add_variables_of_keras_2(
    source: Source, optimizer: Any, listed: list[Any], variables: list[Any] | None
) -> None:
    """Adds what tf_keras knows of the model variables: their order, not themselves."""
    index = foreign.places(optimizer)
    excluded = foreign.excluded_keys(optimizer)
    source.decays = [key not in excluded for key in index]
    plain = [v.name.split(":")[0].removeprefix(f"{optimizer.name}/") for v in listed]
    parts = [name.split("/", 1)[1:] for name in plain]  # after the slot's name
    names = list(dict.fromkeys(part[0] for part in parts if part))
    if len(names) == len(index):
        source.names = names
        patterns, source.undecayed = source.undecayed, []
        for i, name in enumerate(names):
            if any(re.search(pattern, f"{name}:0") for pattern in patterns):
                source.decays[i] = False
    given = [_key(optimizer, variable) for variable in variables or ()]
    if all(key in index for key in given) and given != list(index)[: len(given)]:
        raise ValueError(
            f"{source.title}: argument `variables` must be in the order in which the optimizer "
            f"was built. Received the order {[index[key] for key in given]}."
        )


def _key(optimizer: Any, variable: Any) -> Any:
    return foreign.key_of(optimizer, inside_autocast(variable))


def is_legacy(optimizer: Any) -> bool:
    """Says whether an optimizer keeps slots by name, as tf_keras' legacy ones do."""
    return foreign.is_legacy(optimizer)


def from_legacy(optimizer: Any, variables: list[Any] | None, options: Any) -> Source:
    """Returns what is known of a legacy optimizer of tf_keras, or one of Addons.

    Args:
      optimizer: the optimizer.
      variables: the model variables, if the caller gave them.
      options: arguments that will count more than its own.

    Raises:
      ValueError: its class is none that we have.
    """
    title = title_of(optimizer)
    name, config = type(optimizer).__name__, optimizer.get_config()
    rate = foreign.rate(optimizer)
    if callable(rate) and not hasattr(rate, "assign"):
        config["learning_rate"] = rate
    cls, arguments, undecayed = configs.legacy_arguments(name, config, title, options)
    source = Source(title, cls, arguments, undecayed=undecayed)
    kept = foreign.legacy_slots(optimizer)
    iterations = np.asarray(optimizer.iterations.numpy())
    if not kept and not iterations:
        return source
    known = configs.LEGACY_SLOTS[cls.__name__]
    order = list(kept)
    given = [foreign.legacy_key_of(variable) for variable in variables or ()]
    if kept and set(given) == set(kept):
        order = given
    source.slots = [_slots_of(kept[key], known, title) for key in order]
    if not kept:
        source.slots = [{} for _ in variables or ()]
    names = [next(iter(kept[key].values())).name for key in order]
    source.names = ["/".join(n.split(":")[0].split("/")[1:-1]) for n in names] or None
    source.scalars["iterations"] = iterations
    if cls.__name__ == "Nadam":
        source.scalars["u_product"] = np.asarray(foreign.legacy_product(optimizer).numpy())
    return source


def _slots_of(kept: Any, known: Any, title: str) -> dict[str, np.ndarray]:
    unknown = set(kept) - set(known)
    if unknown:
        raise ValueError(
            f"{title}: it keeps the slots {sorted(unknown)}, which are not known for this "
            f"class. Known: {list(known)}."
        )
    return {known[name]: np.asarray(slot.numpy()) for name, slot in kept.items()}


def from_scaled(optimizer: Any, variables: list[Any] | None, options: Any) -> Source:
    """Returns what is known of a LossScaleOptimizer of Keras and of the one inside it."""
    inner = optimizer.inner_optimizer
    found = from_legacy if is_legacy(inner) else from_keras
    source = found(inner, variables, options)
    source.title = f"{title_of(optimizer)} around {source.title}"
    config = optimizer.get_config()
    config.pop("loss_scale_factor", None)
    names = ("initial_scale", "dynamic_growth_steps", "dynamic")
    arguments = {name: config[name] for name in names if config.get(name) is not None}
    scale = getattr(optimizer, "dynamic_scale", None)  # Keras 3
    if generation_of(optimizer) == 2:
        scale = optimizer.loss_scale
    counter = getattr(optimizer, "step_counter", getattr(optimizer, "dynamic_counter", None))
    source.loss_scale = scale_arguments(arguments)
    if source.has_state and scale is not None:
        source.scale_state["dynamic_scale"] = np.asarray(scale.numpy())
        if counter is not None:
            source.scale_state["step_counter"] = np.asarray(counter.numpy())
    return source


def scale_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns arguments for our LossScaleOptimizer whose bounds hold the initial scale."""
    initial = float(arguments.get("initial_scale", 2.0**15))
    bounds = {"min_scale": min(1.0, initial), "max_scale": max(2.0**24, initial)}
    return arguments | bounds
