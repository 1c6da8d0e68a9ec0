"""The optimizer of this package that a model is compiled with."""

from typing import Any

from tf_keras_optim.optimizers.base import Optimizer


def optimizer_of(model: Any, title: str) -> Optimizer:
    """Returns a model's optimizer, without a wrapper.

    Args:
      model: a Keras model.
      title: name of the caller, for the message.

    Raises:
      TypeError: it is not an optimizer of this package.
    """
    given = getattr(model, "optimizer", None)
    found = getattr(given, "inner_optimizer", given)
    if not isinstance(found, Optimizer):
        raise TypeError(
            f"`{title}` needs a model that is compiled with an optimizer of tf_keras_optim. "
            f"Received: {found!r}. `tf_keras_optim.convert` makes one of Keras' own."
        )
    return found
