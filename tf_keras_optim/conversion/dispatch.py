"""One function for every source."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import tf_keras_optim.conversion.foreign_files as files
import tf_keras_optim.conversion.live as live
import tf_keras_optim.conversion.parted as parted
import tf_keras_optim.conversion.torch_state as torch_state
from tf_keras_optim.conversion.source import Source, finished
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers import Optimizer


def convert(
    source: Any,
    variables: Iterable[Any] | Mapping[Any, Any] | None = None,
    *,
    optimizer: Any = None,
    transpose: Any = False,
    **options: Any,
) -> Any:
    """Makes an optimizer of this package from one of another library, with its state.

    The next updates are those that the source would have made. The source is not changed, and
    nothing is executed that a file holds.

    State that the source does not contain is lost. Files do not record which variables are
    excluded from weight decay (pass `optimizer=` with `exclude_from_weight_decay` called).
    Files of tf_keras record neither the loss scale nor a learning rate that was changed during
    training. PyTorch's SGD and Muon do not count steps, so `iterations` starts at 0. SGD's
    momentum is converted with the rate of its parameter group. The decay of Addons' AdamW
    does not follow the learning rate; ours does, and is equal as long as the rate is constant.

    Args:
      source: one of these. An optimizer of Keras 3 or tf_keras (new or legacy), whichever of
        them runs, in Keras' LossScaleOptimizer or not, or its MultiOptimizer. A legacy one of
        TensorFlow Addons (LAMB, LazyAdam, AdamW). A path: a `.keras`, `.weights.h5` or whole
        model's HDF5 file, or the prefix of a `tf.train.Checkpoint`. The `state_dict()` of an
        optimizer of PyTorch, with tensors or NumPy arrays.
      variables: the model variables in the source's order, e.g.
        `model.trainable_variables`. Required if there is state, except for Keras 3
        optimizers, which list theirs. For PyTorch also a dict from its parameters (their
        numbers, or their names where the state has these) to variables.
      optimizer: for `.weights.h5` files and checkpoints, which do not say what optimizer
        they are of: one of this package, of that class and with its options; it is not
        changed. For PyTorch: the name of the class, e.g. "AdamW".
      transpose: for PyTorch, whose dense kernels are [out, in]: True transposes all
        matrices; a list of parameters transposes these; a dict gives their axes, e.g.
        `{"conv.weight": (2, 3, 1, 0)}`.
      **options: arguments of the new optimizer that count more than the source's.

    Returns:
      An optimizer, built if the source was, in a LossScaleOptimizer if the source was.

    Raises:
      TypeError: `source` is nothing that can be converted, or an option is unknown.
      FileNotFoundError: there is no such file.
      ValueError: the class or an option of the source has no counterpart, the file is
        damaged, or the variables do not fit.
    """
    if torch_state.is_state_dict(source):
        found, chosen = torch_state.from_torch(source, optimizer, variables, transpose)
        return finished(found, chosen, options)
    _check(source, optimizer, transpose)
    known = None if variables is None else list(variables)
    if isinstance(source, (str, os.PathLike)):
        with files.opened(source, optimizer, options) as opened:
            return finished(opened, known, options)
    if parted.has_parts(source):
        return parted.from_keras(source, options, live.title_of(source), convert)
    return finished(_from_live(source, known, options), known, options)


def _check(source: Any, optimizer: Any, transpose: Any) -> None:
    """Refuses arguments that do not go with a source.

    Raises:
      TypeError: there are such.
    """
    ours = (Optimizer, LossScaleOptimizer)
    if isinstance(source, ours):
        raise TypeError(
            f"`convert` takes optimizers of other libraries. Received: {source!r}, which is "
            "one of tf_keras_optim already. `to_keras` is the way back."
        )
    if transpose is not False:
        raise TypeError("`convert`: argument `transpose` is for the state of PyTorch only.")
    if optimizer is None:
        return
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "`convert`: argument `optimizer` is for files and for the state of PyTorch; a live "
            "optimizer says itself what it is."
        )
    if not isinstance(optimizer, ours):
        raise TypeError(
            "`convert`: argument `optimizer` must be an optimizer of tf_keras_optim. "
            f"Received: {optimizer!r} (of type {type(optimizer).__name__})."
        )


def _from_live(source: Any, known: list[Any] | None, options: Any) -> Source:
    if hasattr(source, "inner_optimizer"):
        return live.from_scaled(source, known, options)
    if live.is_legacy(source):
        return live.from_legacy(source, known, options)
    if live.generation_of(source) is not None and hasattr(source, "get_config"):
        return live.from_keras(source, known, options)
    raise TypeError(
        "`convert` takes an optimizer of Keras, a path, or the `state_dict()` of an optimizer "
        f"of PyTorch. Received: {source!r} (of type {type(source).__name__})."
    )
