"""Arguments of our optimizers from the configurations of Keras' ones."""

from collections.abc import Mapping
from typing import Any

from tf_keras_optim.engine.hyperparameters import nearest, plain_number
from tf_keras_optim.keras_compat import described
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.optimizers.records import keras_form, known_to_keras

_RUN_NOT_COMPUTED = ("jit_compile", "is_legacy_optimizer")
# Of what tf_keras keeps as legacy and TensorFlow Addons had: nothing is added to them.
_LEGACY_NAMES = {"LAMB": "Lamb", "LazyAdam": "Adam"}  # of TensorFlow Addons
LEGACY_SLOTS = {
    "SGD": {"momentum": "momentum"},
    "RMSprop": {"rms": "velocity", "momentum": "momentum", "mg": "average_gradient"},
    "Adam": {"m": "momentum", "v": "velocity", "vhat": "velocity_hat"},
    "AdamW": {"m": "momentum", "v": "velocity", "vhat": "velocity_hat"},
    "Lamb": {"m": "momentum", "v": "velocity"},
    "Adamax": {"m": "momentum", "v": "norm"},
    "Nadam": {"m": "momentum", "v": "velocity"},
    "Adagrad": {"accumulator": "accumulator"},
    "Adadelta": {"accum_grad": "accumulated_grad", "accum_var": "accumulated_delta_var"},
    "Ftrl": {"accumulator": "accumulator", "linear": "linear"},
}


def class_of(name: str, title: str) -> type:
    """Returns our class for Keras' class of that name.

    Raises:
      ValueError: there is none; the nearest name is given.
    """
    known = known_to_keras()
    if name not in known:
        raise ValueError(
            f"{title}: the optimizer class {name!r} cannot be converted."
            f"{nearest(name, known)} Known: {', '.join(known)}."
        )
    return known[name]


def learning_rate(value: Any, title: str) -> Any:
    """Returns a learning rate as our optimizers take it.

    Args:
      value: a number, a schedule of either Keras, its config, or a callable.
      title: whose it is, for messages.

    Raises:
      ValueError: the schedule is neither one of Keras' own, nor registered.
    """
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    if isinstance(value, Mapping):
        config = dict(value)
    elif hasattr(value, "get_config") and callable(value):
        config = {"module": type(value).__module__, "class_name": type(value).__name__}
        config["config"] = value.get_config()
    else:
        return plain_number(value)
    if isinstance(config.get("config"), Mapping):  # tf_keras writes a name of None
        given = config["config"].items()
        config["config"] = {k: v for k, v in given if (k, v) != ("name", None)}
    try:
        return described.schedule(keras, config)
    except ValueError as error:
        raise ValueError(
            f"{title}: its learning rate cannot be taken over by the running "
            f"{keras.__name__}. {error} Or pass `learning_rate=` with a schedule of this "
            "Keras."
        ) from error


def keras_arguments(
    name: str, config: Mapping[str, Any], title: str, options: Mapping[str, Any]
) -> tuple[type, dict[str, Any]]:
    """Returns our class and its arguments for the config of a Keras optimizer.

    Args:
      name: the class' name.
      config: what its `get_config` returned, under Keras 3 or tf_keras.
      title: whose it is, for messages.
      options: arguments that will count more.

    Raises:
      ValueError: there is no such class, or an argument that we do not have.
    """
    cls: Any = class_of(name, title)
    arguments = {k: v for k, v in config.items() if k not in _RUN_NOT_COMPUTED}
    if "learning_rate" in options:
        arguments.pop("learning_rate", None)
    elif "learning_rate" in arguments:
        arguments["learning_rate"] = learning_rate(arguments["learning_rate"], title)
    for key in list(arguments):
        if key not in cls._parameters and key != "name":
            if arguments[key] not in (None, False):
                raise ValueError(
                    f"{title}: its argument {key!r} (here {arguments[key]!r}) has no "
                    f"counterpart in {cls.__name__}.{nearest(key, cls._parameters)}"
                )
            del arguments[key]
    if arguments.get("weight_decay") is False:
        arguments["weight_decay"] = None
    form = keras_form(cls)
    for key in form.refused:
        if arguments.get(key) and key not in options:
            raise ValueError(
                f"{title}: its argument {key!r} (here {arguments[key]!r}) does something else "
                f"than {cls.__name__}'s does, so the next updates would be others. Pass "
                f"`{key}=` with the value that ours is to have."
            )
    return cls, arguments | dict(form.fixed)


def legacy_arguments(
    name: str, config: Mapping[str, Any], title: str, options: Mapping[str, Any]
) -> tuple[type, dict[str, Any], list[str]]:
    """Returns our class and its arguments for a legacy optimizer of tf_keras, or of Addons.

    Args:
      name: the class' name.
      config: what its `get_config` returned.
      title: whose it is, for messages.
      options: arguments that will count more.

    Returns:
      cls: our class.
      arguments: its arguments.
      undecayed: regular expressions; variables with such paths do not decay.

    Raises:
      ValueError: there is no such class, or an argument that we do not have.
    """
    ours = _LEGACY_NAMES.get(name, name)
    if ours not in LEGACY_SLOTS:
        class_of(ours, title)
        raise ValueError(f"{title}: {name!r} is no legacy class that can be converted.")
    config = dict(config)
    decay = config.pop("decay", None) or 0.0
    more: dict[str, Any] = {}
    if ours == "Nadam":
        more["momentum_decay"] = decay
    elif decay and "learning_rate" not in options:
        config["learning_rate"] = decaying(config["learning_rate"], decay, title)
    if ours == "Adagrad" or (ours == "RMSprop" and not config.get("momentum")):
        more["epsilon_inside_root"] = False
    undecayed = list(config.pop("exclude_from_weight_decay", None) or ())
    if ours == "Lamb":
        adapted = config.pop("exclude_from_layer_adaptation", None)
        more["exclude_from_layer_adaptation"] = undecayed if adapted is None else adapted
        rate = config.pop("weight_decay_rate", None) or config.pop("weight_decay", None)
        more |= {"weight_decay": rate or None, "decay_in_trust_ratio": True}
    if name == "LazyAdam":
        more["sparse"] = "lazy"
    if name == "AdamW":
        more["weight_decay"] = _per_rate(config, title)
    cls, arguments = keras_arguments(ours, config, title, options)
    return cls, arguments | more, undecayed


def decaying(rate: Any, decay: float, title: str) -> Any:
    """Returns the schedule that a legacy optimizer's `decay` makes of its rate."""
    if callable(rate) or isinstance(rate, Mapping):
        raise ValueError(
            f"{title}: both a schedule and `decay`={decay} act on its learning rate. Pass "
            "`learning_rate=` with one schedule that stands for both."
        )
    return keras.optimizers.schedules.InverseTimeDecay(float(rate), 1, decay)


def _per_rate(config: Mapping[str, Any], title: str) -> float:
    """Returns AdamW's decay as ours: Addons does not multiply it by the learning rate."""
    decay, rate = config.get("weight_decay"), config.get("learning_rate")
    if callable(rate) or callable(decay) or isinstance(rate, Mapping) or not rate:
        raise ValueError(
            f"{title}: its weight decay {decay!r} does not follow its learning rate {rate!r}; "
            "ours is multiplied by it, so there is no one number for a schedule. Convert it "
            "with a number as its learning rate."
        )
    return float(plain_number(decay)) / float(plain_number(rate))
