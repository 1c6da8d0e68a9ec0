"""Optimizers by name, and plain strings in `model.compile`."""

import fnmatch
import types
from typing import Any

from tf_keras_optim.engine.hyperparameters import nearest
from tf_keras_optim.keras_compat import described, keras_private
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.optimizers.records import PACKAGE, records


def _classes() -> dict[str, type[Optimizer]]:
    """Returns the optimizers of this package by lower-case name."""
    return {name: record.cls for name, record in records().items()}


# Other names of optimizers with some arguments, in lower case.
_ALIASES: dict[str, tuple[str, dict[str, Any]]] = {"lazyadam": ("adam", {"sparse": "lazy"})}

_replaced: dict[str, Any] = {}


class _AutomaticWrapper(type):
    """Stands for Keras' LossScaleOptimizer where `compile` wraps by itself.

    What is an instance of Keras' own class is one of this; called with an optimizer of
    this package it makes a wrapper of this package.
    """

    original: Any = None

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.original)

    def __call__(cls, inner_optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        ours = isinstance(inner_optimizer, Optimizer)
        return (LossScaleOptimizer if ours else cls.original)(inner_optimizer, *args, **kwargs)


def _install_wrapper() -> None:
    holder, attribute = keras_private.automatic_wrapper()
    found = getattr(holder, attribute)
    if isinstance(found, (_AutomaticWrapper, types.SimpleNamespace)):
        return
    original = found if keras_private.IS_KERAS_3 else found.BaseLossScaleOptimizer
    wrapper: Any = _AutomaticWrapper("LossScaleOptimizer", (), {"original": original})
    _replaced_wrapper.append(found)
    if not keras_private.IS_KERAS_3:
        wrapper = types.SimpleNamespace(BaseLossScaleOptimizer=wrapper)
    setattr(holder, attribute, wrapper)


_replaced_wrapper: list[Any] = []


def install() -> None:
    """Makes plain strings mean this package: `model.compile(optimizer="adam")`.

    Under the policy "mixed_float16", `compile` then also wraps an optimizer of this
    package in the LossScaleOptimizer of this package. The change holds for the running
    Keras, and for the name of every optimizer of this package, until `uninstall`.
    Existing optimizers and saved models do not change.

    Raises:
      RuntimeError: this version of Keras has no table of names that can be changed.
    """
    table = keras_private.required_strings()
    _install_wrapper()
    for name, cls in _classes().items():
        if table.get(name) is not cls:
            _replaced[name] = table.get(name)
            table[name] = cls


def uninstall() -> None:
    """Reverts `install`: plain strings mean Keras' own optimizers again."""
    while _replaced_wrapper:
        setattr(*keras_private.automatic_wrapper(), _replaced_wrapper.pop())
    table = keras_private.required_strings() if _replaced else {}
    for name, before in _replaced.items():
        if before is None:
            table.pop(name)
        else:
            table[name] = before
    _replaced.clear()


def list_optimizers(pattern: str = "*") -> list[str]:
    """Returns the names of the optimizers of this package that match a pattern.

    Args:
      pattern: pattern of the module `fnmatch` with `*`, `?` and `[...]`, in any case.

    Returns:
      The names of the classes in alphabetical order, ignoring case; an empty list if none
      matches. `get` and `getattr(tf_keras_optim, name)` accept them.

    Raises:
      TypeError: the pattern is not a string.

    Example:
      >>> list_optimizers("adam*")
      ['Adam', 'Adamax', 'AdamW']
    """
    if not isinstance(pattern, str):
        raise TypeError(
            "`list_optimizers`: argument `pattern` must be a string, for example 'Ada*'. "
            f"Received: pattern={pattern!r} (of type {type(pattern).__name__})."
        )
    known = records()
    return [known[name].name for name in known if fnmatch.fnmatchcase(name, pattern.lower())]


def get(identifier: Any) -> Optimizer:
    """Returns an optimizer of this package.

    Args:
      identifier: a name in any case ("adam", "AdamW", "tf_keras_optim>SGD"), a
        config as `serialize` returns it, or an optimizer, which is returned as it is.
        "LazyAdam" means `Adam(sparse="lazy")`.

    Raises:
      ValueError: the name is unknown; the nearest known one is named.
      TypeError: the identifier is of another kind.
    """
    if isinstance(identifier, (Optimizer, LossScaleOptimizer)):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if not isinstance(identifier, str):
        raise TypeError(
            "`get` takes a name, a config or an optimizer of tf_keras_optim. Received: "
            f"{identifier!r} (of type {type(identifier).__name__})."
        )
    cls, arguments = _named(identifier)
    return cls(**arguments)


def _named(name: str) -> tuple[type[Optimizer], dict[str, Any]]:
    """Returns the class that a name means, and the arguments that belong to the name."""
    classes = _classes()
    plain = name.lower().removeprefix(f"{PACKAGE}>")
    plain, arguments = _ALIASES.get(plain, (plain, {}))
    if plain not in classes:
        known = ", ".join(cls.__name__ for cls in classes.values())
        near = nearest(plain, [*classes, *_ALIASES])
        raise ValueError(f"Unknown optimizer {name!r}.{near} Known: {known}.")
    return classes[plain], arguments


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Returns a config from which `deserialize` makes an equal optimizer.

    Args:
      optimizer: an optimizer of this package, or a registered subclass.

    Returns:
      A dict that JSON can hold. State is not part of it.
    """
    if not isinstance(optimizer, (Optimizer, LossScaleOptimizer)):
        raise TypeError(
            "`serialize` takes an optimizer of tf_keras_optim. Received: "
            f"{optimizer!r} (of type {type(optimizer).__name__})."
        )
    return keras.saving.serialize_keras_object(optimizer)


def deserialize(config: dict[str, Any], custom_objects: Any = None) -> Optimizer:
    """Makes an optimizer from a config.

    Args:
      config: what `serialize` returned, or `{"class_name": ..., "config": {...}}`
        with the name of an optimizer of this package.
      custom_objects: further classes and functions by name. A name that is neither
        among them nor registered with Keras is never imported.

    Raises:
      ValueError: the config names no optimizer that is known here.
    """
    name = config.get("class_name")
    if not isinstance(name, str):
        raise ValueError(f"An optimizer's config needs 'class_name'. Received: {config!r}.")
    if "module" not in config:
        given = (custom_objects or {}).get(name)
        cls, arguments = (given, {}) if given else _named(name)
        config = {**config, "config": {**arguments, **(config.get("config") or {})}}
        return described.made(keras, cls, config, custom_objects)
    if described.root_of(config) in described.KERAS and name not in (custom_objects or {}):
        raise ValueError(
            f"The config describes {name} of {config['module']!r}, which is not an optimizer "
            "of tf_keras_optim. Use Keras' own `deserialize` for it."
        )
    kinds = (Optimizer, LossScaleOptimizer)
    expected = "an optimizer of tf_keras_optim"
    return described.instance(keras, config, kinds, expected, custom_objects)


def _announce() -> None:
    """Lets Keras 3 find "tf_keras_optim>Name"; Keras 2 looks such names up itself."""
    table = keras_private.strings()
    if keras_private.IS_KERAS_3 and table is not None:
        table.update({f"{PACKAGE}>{name}": cls for name, cls in _classes().items()})


_announce()
