"""Groups of a model's variables, as the argument `groups` of every optimizer takes them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tf_keras_optim.engine.hyperparameters import Hyperparameter
from tf_keras_optim.engine.patterns import exactly
from tf_keras_optim.engine.state.paths import by_path

_DECAY = Hyperparameter(0.75, above=0.0, maximum=1.0)
_DECAY.name = "decay"


def layerwise_learning_rates(
    model: Any, decay: float = 0.75, *, blocks: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Returns groups whose learning rates fall from the top of a model to its bottom.

    ```
    multiplier of block i of n = decay ** (n - 1 - i)        i from 0, at the input
    ```

    A block is a layer with trainable weights, including its sublayers. A model inside the
    model (a backbone) is divided into its layers, unless other layers beside it have weights
    of the same shapes: these are blocks.

    Args:
      model: a Keras model that is built.
      decay: factor from one block to the one below it, above 0, at most 1.
      blocks: regular expressions, searched in the paths of the variables, one for each block
        from the input to the output, for models whose layers are not the blocks. The first
        match counts; every variable must have one.

    Returns:
      Dict from a regular expression for each block to its `learning_rate_multiplier`; give it
      to an optimizer as `groups`, alone or merged with others: `{**one, **other}`.

    Raises:
      ValueError: the model is not built, has nothing to train, or a variable is in none of the
        `blocks`.

    Example:
      >>> layers = [tf.keras.layers.Dense(2, name=name) for name in ("a", "b", "c")]
      >>> model = tf.keras.Sequential([tf.keras.layers.Input((2,)), *layers])
      >>> groups = layerwise_learning_rates(model, 0.5)
      >>> [settings["learning_rate_multiplier"] for settings in groups.values()]
      [0.25, 0.5, 1.0]

    Source: Clark et al., "ELECTRA", ICLR 2020 (section 3.1); Bao et al., "BEiT", ICLR 2022.
    """
    decay = _DECAY.check(decay, "layerwise_learning_rates")
    known = _trainable(model, "layerwise_learning_rates")
    if blocks is None:
        paths = [[known[id(variable)] for variable in block] for block in _blocks(model)]
    else:
        paths = _sorted_into(known, blocks)
    top = len(paths) - 1
    return {
        exactly(block): {"learning_rate_multiplier": decay ** (top - i)}
        for i, block in enumerate(paths)
    }


def no_decay_on_vectors(model: Any) -> dict[str, dict[str, float]]:
    """Returns a group without weight decay: biases, and scales and offsets of normalizations.

    Args:
      model: a Keras model that is built.

    Returns:
      Dict from a regular expression for the trainable variables with less than two dimensions
      to `weight_decay` 0; give it to an optimizer as `groups`, alone or merged with others.
      Empty where there are none.

    Raises:
      ValueError: the model is not built, or has nothing to train.

    Example:
      >>> model = tf.keras.Sequential([tf.keras.layers.Input((2,)),
      ...                              tf.keras.layers.Dense(2, name="a")])
      >>> no_decay_on_vectors(model)
      {'^(?:a/bias)$': {'weight_decay': 0.0}}
    """
    known = _trainable(model, "no_decay_on_vectors")
    paths = [known[id(v)] for v in model.trainable_variables if len(v.shape) < 2]
    return {exactly(paths): {"weight_decay": 0.0}} if paths else {}


def _trainable(model: Any, function: str) -> dict[int, str]:
    """Returns the paths of the trainable variables, as an optimizer numbers them, by id.

    Raises:
      ValueError: there are none.
    """
    variables = list(model.trainable_variables) if getattr(model, "built", True) else []
    if not variables:
        raise ValueError(
            f"`{function}`: argument `model` has no trainable variables. Build it first, e.g. "
            f"with an Input layer or by `model.build(input_shape)`. Received: {model!r}."
        )
    return {id(variable): path for path, variable in by_path(variables).items()}


def _blocks(model: Any) -> list[list[Any]]:
    """Returns the trainable variables of each block, from the input to the output."""
    seen: set[int] = set()
    found = []
    for block in _units(model):
        new = [v for v in block.trainable_variables if id(v) not in seen]
        seen |= {id(v) for v in new}
        if new:
            found.append(new)
    own = [v for v in model.trainable_variables if id(v) not in seen]
    return [own, *found] if own else found  # what the model has beside its layers


def _units(model: Any) -> list[Any]:
    """Returns the blocks of a model."""
    layers = [layer for layer in model.layers if layer.trainable_variables]
    shapes = [[tuple(v.shape) for v in layer.trainable_variables] for layer in layers]
    found = []
    for layer, own in zip(layers, shapes):
        is_container = hasattr(layer, "layers") and shapes.count(own) == 1
        found += _units(layer) if is_container else [layer]
    return found


def _sorted_into(known: Mapping[int, str], blocks: Sequence[str]) -> list[list[str]]:
    """Returns the paths of each block that a pattern stands for.

    Raises:
      ValueError: a pattern is found in no path, or a path has none.
    """
    found: list[list[str]] = [[] for _ in blocks]
    for path in known.values():
        place = next((i for i, p in enumerate(blocks) if re.search(p, path)), None)
        if place is None:
            raise ValueError(
                f"`layerwise_learning_rates`: variable {path!r} is in none of the blocks "
                f"{list(blocks)!r}. Add a pattern for it."
            )
        found[place].append(path)
    empty = [pattern for pattern, block in zip(blocks, found) if not block]
    if empty:
        raise ValueError(
            f"`layerwise_learning_rates`: argument `blocks` has patterns for no variable that "
            f"none before stands for: {empty!r}. Leave them out, or put them first."
        )
    return found
