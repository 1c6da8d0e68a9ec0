"""The private state of Keras' optimizers, which converting a live one reads and sets.

Each function says what it needs. Where that is missing there is one error, before anything is
made: a file with the optimizer's state can be converted instead.
"""

from collections.abc import Mapping
from typing import Any

from tf_keras_optim.engine.tensorflow import missing


def _read(owner: Any, name: str) -> Any:
    """Returns a private attribute.

    Raises:
      RuntimeError: there is none.
    """
    try:
        return getattr(owner, name)
    except AttributeError:
        consequence = (
            "a live optimizer of this class cannot be converted. Save it with its model, and "
            "convert the file."
        )
        raise missing.error_of(owner, name, consequence) from None


def name_of(optimizer: Any) -> str:
    """Returns an optimizer's name, which legacy ones have as `_name`; else an empty text."""
    return str(getattr(optimizer, "name", None) or getattr(optimizer, "_name", ""))


def is_built(optimizer: Any) -> bool:
    """Says whether an optimizer has its slots: `built`, or `_built` in tf_keras."""
    return bool(getattr(optimizer, "built", False) or getattr(optimizer, "_built", False))


def is_legacy(optimizer: Any) -> bool:
    """Says whether an optimizer keeps slots by name, in `_slots`, as legacy ones do."""
    return hasattr(optimizer, "get_slot_names") and hasattr(optimizer, "_slots")


def rate(optimizer: Any) -> Any:
    """Returns the learning rate as it was given.

    Needs `_learning_rate`, or `_hyper` of a legacy one. Without it the answer is `None`, and
    the optimizer's config tells.
    """
    if is_legacy(optimizer):
        return getattr(optimizer, "_hyper", {}).get("learning_rate")
    return getattr(optimizer, "_learning_rate", None)


def variables(optimizer: Any) -> list[Any]:
    """Returns the model variables of a Keras 3 optimizer; needs `_trainable_variables`."""
    return list(_read(optimizer, "_trainable_variables"))


def optimizer_map(optimizer: Any) -> Any:
    """Returns which optimizer updates what in Keras' `MultiOptimizer`: `_optimizer_map`."""
    return _read(optimizer, "_optimizer_map")


def decays(optimizer: Any, variable: Any) -> bool:
    """Says whether a variable decays under Keras 3; needs `_use_weight_decay`."""
    return bool(_read(optimizer, "_use_weight_decay")(variable))


def excluded_names(optimizer: Any) -> list[str]:
    """Returns the patterns that exclude from decay under Keras 2.

    tf_keras sets `_exclude_from_weight_decay_names` where there are some; without it there are
    none.
    """
    return list(getattr(optimizer, "_exclude_from_weight_decay_names", ()))


def excluded_keys(optimizer: Any) -> Any:
    """Returns the keys of variables that do not decay under Keras 2.

    tf_keras sets `_exclude_from_weight_decay` where there are some; without it there are none.
    """
    return getattr(optimizer, "_exclude_from_weight_decay", ())


def places(optimizer: Any) -> Mapping[Any, int]:
    """Returns the places of variables by key under Keras 2; needs `_index_dict`."""
    return _read(optimizer, "_index_dict")


def key_of(optimizer: Any, native: Any) -> Any:
    """Returns a variable's key under Keras 2; needs `_var_key`, and `_unique_id` of it."""
    return _read(optimizer, "_var_key")(native) if hasattr(native, "_unique_id") else None


def legacy_slots(optimizer: Any) -> Mapping[Any, Mapping[str, Any]]:
    """Returns a legacy optimizer's slots by variable and name; needs `_slots`."""
    return _read(optimizer, "_slots")


def legacy_key_of(variable: Any) -> Any:
    """Returns a variable's key there, `_unique_id`; `None` where it has none."""
    return getattr(variable, "_unique_id", None)


def scalar(optimizer: Any, name: str) -> Any:
    """Returns a variable that an optimizer carries from step to step; needs the attribute.

    Args:
      optimizer: the optimizer.
      name: its attribute there, as the record of our optimizer says.
    """
    return _read(optimizer, name)


def legacy_product(optimizer: Any) -> Any:
    """Returns the variable with a legacy Nadam's product; needs `_m_cache`."""
    return _read(optimizer, "_m_cache")


def count_product(optimizer: Any, updates: int) -> None:
    """Tells Nadam of Keras 2 how many updates its product has; others do not count them."""
    if hasattr(optimizer, "_u_product_counter"):
        optimizer._u_product_counter = updates + 1


def scale(wrapper: Any) -> tuple[Any, Any]:
    """Returns the variables with scale and good steps of Keras 2's LossScaleOptimizer.

    Needs `_loss_scale`, with `_current_loss_scale` and `_counter`.
    """
    state = _read(wrapper, "_loss_scale")
    return _read(state, "_current_loss_scale"), _read(state, "_counter")
