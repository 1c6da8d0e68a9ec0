"""Whether what a model's config names may be made: Keras' own, registered, or passed."""

from collections.abc import Mapping
from typing import Any

from tf_keras_optim.keras_compat import described
from tf_keras_optim.keras_compat.running import keras

_IS_KERAS_3 = not keras.__name__.startswith("tf_keras")
# Parts of Keras whose classes and functions a model consists of; in others are functions that
# read files or fetch them.
_PARTS = frozenset(
    {
        "activations",
        "constraints",
        "engine",
        "feature_column",
        "initializers",
        "layers",
        "losses",
        "metrics",
        "mixed_precision",
        "models",
        "optimizers",
        "premade_models",
        "regularizers",
    }
)
_NO_MODELS = ("load_model", "model_from_json", "model_from_yaml", "model_from_config")
# Values that Keras writes down: they name no class but tensors.
_VALUES = ("__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__lambda__")


def check(config: Any, title: str, custom_objects: Any = None) -> None:
    """Refuses a config that names what would have to be imported, or is no part of a model.

    Keras 2 imports any module that a config names.

    Args:
      config: the config of a model, as it stands in its file.
      title: the file, for messages.
      custom_objects: further classes and functions by name.

    Raises:
      ValueError: there is such a name.
    """
    left = [config]
    while left:
        item = left.pop()
        if isinstance(item, (list, tuple)):
            left.extend(item)
        elif isinstance(item, Mapping):
            left.extend(item.values())
            if "class_name" in item and "config" in item and "module" in item:
                _check_one(item, title, custom_objects)


def _check_one(config: Mapping[str, Any], title: str, custom_objects: Any) -> None:
    name = config["class_name"]
    if name in _VALUES or described.registered(keras, config, custom_objects) is not None:
        return
    module = config["module"]
    if module is None or (module == "builtins" and name == "function"):
        return  # Keras looks the name up among its own
    root, *parts = [part for part in str(module).split(".") if part not in ("src", "api")]
    if name == "__typespec__" and root == "tensorflow":
        return
    shown = config["config"] if name == "function" else name
    is_part = _IS_KERAS_3 or not parts or parts[0] in _PARTS
    if root in described.KERAS and is_part and shown not in _NO_MODELS:
        return
    raise ValueError(
        f"{title}: the model in it names {shown!r} of module {module!r}, which is neither a "
        f"part of {keras.__name__}'s models, nor registered, nor among `custom_objects`. "
        "Nothing is imported because a file names it. Register it with "
        "`keras.saving.register_keras_serializable` or pass `custom_objects`; where you trust "
        "the file, `safe_mode=False` leaves this to Keras."
    )
