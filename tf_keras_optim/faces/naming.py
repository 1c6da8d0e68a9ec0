"""Names and sentences that both faces use."""

import re
from typing import Any

HOW_TO_BIND_TO_KERAS_2 = (
    "For a tf_keras model set the environment variable TF_USE_LEGACY_KERAS=1 before "
    "TensorFlow is imported."
)
HOW_TO_BIND_TO_KERAS_3 = (
    "For a Keras 3 model unset the environment variable TF_USE_LEGACY_KERAS before "
    "TensorFlow is imported."
)


def snake_case(name: str) -> str:
    """Returns "loss_scale_optimizer" for "LossScaleOptimizer", "sgd" for "SGD"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def description(optimizer: Any, bound_to: str, how_to_change: str) -> str:
    """Returns the text that a Keras of the other generation prints in its error."""
    return (
        f"<{type(optimizer).__name__} optimizer {optimizer.name!r} of tf_keras_optim, bound "
        f"to {bound_to}. {how_to_change}>"
    )
