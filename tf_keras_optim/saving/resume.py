"""Saving an optimizer, with weights or without, and going on from there."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

import tf_keras_optim.saving.damage as damage
import tf_keras_optim.saving.reading as reading
import tf_keras_optim.saving.rollback as rollback
import tf_keras_optim.saving.state_files as state_files
from tf_keras_optim.engine.state.named_state import LoadReport
from tf_keras_optim.engine.state.paths import by_path
from tf_keras_optim.engine.state.saved_arrays import in_memory
from tf_keras_optim.loss_scale import LossScaleOptimizer
from tf_keras_optim.optimizers.base import Optimizer


def save_state(
    path: str | os.PathLike, optimizer: Any, variables: Iterable[Any] | None = None
) -> None:
    """Writes an optimizer's state to a file atomically.

    A process that is killed while it saves leaves the earlier file as it was.

    Args:
      path: the file, e.g. "run/state.npz"; its directory must exist.
      optimizer: an optimizer of this package, in a LossScaleOptimizer or not.
      variables: model variables whose values go into the same file, e.g.
        `model.variables`; so weights and state are always of the same step.

    Raises:
      TypeError: `optimizer` is none of this package.
      ValueError: the optimizer has not taken over its waiting state yet.
    """
    _check("save_state", optimizer)
    values = {name: np.asarray(v.numpy()) for name, v in by_path(variables).items()}
    state_files.write_state(path, optimizer.state_dict(), values)


def load_state(
    path: str | os.PathLike,
    optimizer: Any,
    variables: Iterable[Any] | None = None,
    *,
    strict: bool = True,
    keep_hyperparameters: bool = False,
    names: Mapping[str, str] | Callable[[str], str] | None = None,
) -> LoadReport:
    """Loads an optimizer's state from a file.

    Everything is read and checked before anything is changed.

    Args:
      path: a file of `save_state`, a `.keras` or `.weights.h5` file of a model that was
        compiled with an optimizer of this package (its optimizer's part is read), or the
        prefix of a checkpoint that an exported model wrote.
      optimizer: an optimizer of this package.
      variables: model variables that get the values which were saved with the state.
      strict: as for `load_state_dict`; applies to `variables` too.
      keep_hyperparameters: as for `load_state_dict`.
      names: as for `load_state_dict`; applies to `variables` too.

    Returns:
      report: what was loaded, and what was not.

    Raises:
      FileNotFoundError: there is no such file.
      TypeError: `optimizer` is none of this package.
      ValueError: the file is damaged or no such file, or does not fit. Nothing is changed.
    """
    _check("load_state", optimizer)
    with reading.opened_state(path) as (state, saved):
        rename = names if callable(names) else lambda name: (names or {}).get(name, name)
        targets = by_path(variables)
        fitting = {}
        if variables is not None:
            found = {rename(name): value for name, value in saved.items()}
            fitting = _fitting(str(path), targets, found, strict)
        if not optimizer.built:  # what waits for the slots outlives the file
            state = in_memory(state)
        with rollback.unless_complete(targets[name] for name in fitting):
            # The weights first: an average that was not saved starts from them.
            _assign(targets, fitting)
            try:
                return optimizer.load_state_dict(state, strict, keep_hyperparameters, names)
            except ValueError as error:
                raise ValueError(f"{str(path)!r}: {error}") from error
            except damage.KINDS:
                with damage.explained(path, "as the state of an optimizer"):
                    raise


def _assign(targets: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> None:
    for name, value in values.items():
        targets[name].assign(np.asarray(value))


def _check(function: str, optimizer: Any) -> None:
    if not isinstance(optimizer, (Optimizer, LossScaleOptimizer)):
        if isinstance(getattr(optimizer, "inner_optimizer", None), Optimizer):
            raise TypeError(
                f"`{function}` takes an optimizer of tf_keras_optim. Received: Keras' own "
                f"LossScaleOptimizer around {optimizer.inner_optimizer!r}, whose scale has no "
                "place in the file. Compile the model with `tko.LossScaleOptimizer(optimizer)`,"
                " or call `tko.install()` before, or give `optimizer.inner_optimizer`: then "
                "the scale is not kept."
            )
        raise TypeError(
            f"`{function}` takes an optimizer of tf_keras_optim. Received: {optimizer!r} (of "
            f"type {type(optimizer).__name__}). `tf_keras_optim.convert` makes one of Keras' "
            "own."
        )


def _fitting(
    path: str, targets: Mapping[str, Any], saved: Mapping[str, Any], strict: bool
) -> dict[str, Any]:
    """Returns the saved values that fit the variables.

    Raises:
      ValueError: not all fit, and `strict`.
    """
    differences = []
    fitting = {}
    for name, variable in targets.items():
        if name not in saved:
            differences.append(f"{name} {tuple(variable.shape)}: not saved")
        elif tuple(variable.shape) != saved[name].shape:
            shapes = f"here {tuple(variable.shape)}, saved {saved[name].shape}"
            differences.append(f"{name}: {shapes}")
        elif np.dtype(_dtype_name(variable)) != saved[name].dtype:
            here, there = _dtype_name(variable), saved[name].dtype.name
            differences.append(f"{name}: here {here}, saved {there}")
        else:
            fitting[name] = saved[name]
    surplus = [name for name in saved if name not in targets]
    differences += [f"{name} {saved[name].shape}: not among `variables`" for name in surplus]
    if differences and strict:
        lines = "\n  ".join(differences[:20])
        raise ValueError(
            f"{path!r}: the saved weights do not fit `variables`; nothing was changed.\n  "
            f"{lines}\nGive the same variables as to `save_state`, pass `names=`, or take "
            "what fits with `strict=False`."
        )
    return fitting


def _dtype_name(variable: Any) -> str:
    return getattr(variable.dtype, "name", variable.dtype)
