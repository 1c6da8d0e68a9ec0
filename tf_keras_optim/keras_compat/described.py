"""What a config describes, made without importing or calling anything that only it names.

A config may come from a file, and a file from anywhere. Keras 2 imports whatever module a
config names; here only these are found: Keras' own schedules by the list below, what was
registered with Keras (this package registers its classes), and what the caller passes as
`custom_objects`, or has in a `custom_object_scope`.
"""

from collections.abc import Callable, Mapping
from typing import Any

SCHEDULES = (
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
)
KERAS = ("keras", "tf_keras")
_LAMBDA = "__lambda__"


def root_of(config: Mapping[str, Any]) -> str:
    """Returns the top package of the module that a config names; an empty text for none."""
    return str(config.get("module") or "").split(".")[0]


def registered(keras: Any, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
    """Returns the class or function that a config names and the caller knows, or `None`.

    Args:
      keras: the running Keras.
      config: the config.
      custom_objects: further objects by name.
    """
    names = [config.get("registered_name"), config.get("class_name")]
    if config.get("class_name") == "function":
        names = [config.get("config"), config.get("registered_name")]
    for name in names:
        if isinstance(name, str) and name != "function":
            found = keras.saving.get_registered_object(name, dict(custom_objects or {}))
            if found is not None:
                return found
    return None


def schedule(keras: Any, config: Any, custom_objects: Any = None) -> Any:
    """Returns the schedule, or the callable, that a config describes.

    Args:
      keras: the running Keras.
      config: what Keras serialized.
      custom_objects: further classes and functions by name.

    Raises:
      ValueError: the config has another form, or what it names is not known.
    """
    _check_form(config)
    name = config["class_name"]
    if name == _LAMBDA:  # code in the file: Keras refuses it unless the caller allows it
        return keras.saving.deserialize_keras_object({k: config[k] for k in _form(config)})
    found = registered(keras, config, custom_objects)
    if found is None and name in SCHEDULES and root_of(config) in ("", *KERAS):
        found = getattr(keras.optimizers.schedules, name)
    if found is None or not callable(found):
        raise ValueError(unknown(config, "a schedule or callable"))
    if not isinstance(found, type):
        return found
    base = keras.optimizers.schedules.LearningRateSchedule
    if not issubclass(found, base) and "__call__" not in dir(found):
        raise ValueError(unknown(config, "a schedule or callable"))
    return made(keras, found, config, custom_objects)


def instance(
    keras: Any, config: Any, kinds: Any, expected: str, custom_objects: Any = None
) -> Any:
    """Returns the object of one of some kinds that a config describes.

    Args:
      keras: the running Keras.
      config: what Keras serialized.
      kinds: a class, or a tuple of them, as `issubclass` takes it.
      expected: what these are, for messages.
      custom_objects: further classes by name.

    Raises:
      ValueError: the config has another form, or names no such class that is known.
    """
    _check_form(config)
    found = registered(keras, config, custom_objects)
    if not isinstance(found, type) or not issubclass(found, kinds):
        raise ValueError(unknown(config, expected))
    return made(keras, found, config, custom_objects)


def made(
    keras: Any, cls: Callable[..., Any], config: Mapping[str, Any], custom_objects: Any = None
) -> Any:
    """Returns what `cls.from_config` makes of a config, where `custom_objects` are known.

    Raises:
      ValueError: the arguments in it are no dict.
    """
    arguments = config.get("config") or {}
    if not isinstance(arguments, Mapping) or not hasattr(cls, "from_config"):
        raise ValueError(
            f"The config of {config.get('class_name')!r} must hold a dict of arguments for a "
            f"class with `from_config`. Received: {config!r}."
        )
    with keras.saving.custom_object_scope(dict(custom_objects or {})):
        return cls.from_config(dict(arguments))  # type: ignore[attr-defined]


def unknown(config: Mapping[str, Any], expected: str) -> str:
    """Returns the text of the error about a config whose class or function is not known."""
    name = config["class_name"]
    name = config.get("config") if name == "function" else name
    return (
        f"A config names {name!r} of module {config.get('module')!r}, which is not {expected} "
        "that is known here, and nothing is imported because a config says so. Register it "
        "with `keras.saving.register_keras_serializable`, or pass it as `custom_objects`."
    )


def _check_form(config: Any) -> None:
    is_config = isinstance(config, Mapping) and isinstance(config.get("class_name"), str)
    if not is_config:
        raise ValueError(
            "The config of an object must be a dict with 'class_name' and 'config'. "
            f" Received: {config!r}."
        )


def _form(config: Mapping[str, Any]) -> list[str]:
    return [key for key in ("class_name", "config") if key in config]
