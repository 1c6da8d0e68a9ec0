"""Keras' own files, written atomically and checked before they are read.

The bytes of the file are Keras'; a line with their SHA-256 follows them, which Keras and
the readers of HDF5 and zip archives do not look at. HDF5 itself notices little of what is
damaged, and may crash on it.
"""

import contextlib
import functools
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import tf_keras_optim.loss_scale.around as around
import tf_keras_optim.saving.archives as archives
import tf_keras_optim.saving.atomic as atomic
import tf_keras_optim.saving.checksums as checksums
import tf_keras_optim.saving.damage as damage
import tf_keras_optim.saving.model_configs as model_configs
import tf_keras_optim.saving.rollback as rollback
from tf_keras_optim.keras_compat.running import keras
from tf_keras_optim.optimizers.base import Optimizer
from tf_keras_optim.saving.turns import TURN

_IS_KERAS_3 = not keras.__name__.startswith("tf_keras")
_MEMBERS = ["config.json", "metadata.json", "model.weights.h5"]


def save_model(model: Any, path: str | os.PathLike) -> None:
    """Writes a model with its optimizer's state to a `.keras` file atomically.

    Args:
      model: a Keras model.
      path: ends in ".keras"; its directory must exist. Keras' `load_model` reads it too.

    Raises:
      ValueError: `path` ends in something else.
    """
    # Keras 2 takes the format from the name in the main thread only.
    options = {"save_format": "keras_v3"} if keras.__name__.startswith("tf_keras") else {}
    _save(functools.partial(model.save, **options), path, ".keras")


def load_model(path: str | os.PathLike, **options: Any) -> Any:
    """Reads a model that `save_model` wrote, after checking every byte.

    No module is imported because the file names it, also in Keras 2: layers and functions are
    Keras' own, registered, or among `custom_objects`, unless `safe_mode` is False.

    Args:
      path: the file.
      **options: as for Keras' `load_model`, e.g. `custom_objects` or `safe_mode`.

    Returns:
      The model, compiled, with its optimizer's state.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or was not written by `save_model`.
    """
    path = _checked(path, ".keras", "keras.models.load_model")
    with damage.explained(path, "as a model"), _unpacked(path, options) as source:
        return keras.models.load_model(source, **options)


def save_weights(model: Any, path: str | os.PathLike) -> None:
    """Writes weights and optimizer state to a `.weights.h5` file atomically.

    Args:
      model: a Keras model, built.
      path: ends in ".weights.h5"; its directory must exist. Keras' `load_weights` reads it
        too.

    Raises:
      ValueError: `path` ends in something else.
    """
    _save(model.save_weights, path, ".weights.h5")


def load_weights(model: Any, path: str | os.PathLike) -> None:
    """Reads what `save_weights` wrote into a model, after checking every byte.

    If the file does not fit, nothing changes: weights, metrics and optimizer keep their
    values.

    Args:
      model: a Keras model, built and compiled.
      path: the file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, was not written by `save_weights`, or does not fit.
    """
    path = _checked(path, ".weights.h5", "model.load_weights")
    with (
        damage.explained(path, "as weights of this model"),
        rollback.unless_complete(_variables_of(model)),
        _without_waiting_state(getattr(model, "optimizer", None)),
    ):
        model.load_weights(str(path))


def _check_suffix(path: pathlib.Path, suffix: str) -> None:
    if not path.name.endswith(suffix):
        raise ValueError(f"Argument `path` must end in {suffix!r}. Received: {str(path)!r}.")


def _save(save: Any, path: str | os.PathLike, suffix: str) -> None:
    path = pathlib.Path(path)
    _check_suffix(path, suffix)
    with atomic.written_aside(path, f"model{suffix}") as written:  # Keras wants its suffix
        with TURN:
            save(str(written))
        with open(written, "rb+") as file:
            found = checksums.of_file(file)
            file.write(checksums.MARK + found.encode())


def _checked(path: str | os.PathLike, suffix: str, plain: str) -> pathlib.Path:
    """Returns a path whose file is whole.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is none of ours, or damaged.
    """
    path = pathlib.Path(path)
    _check_suffix(path, suffix)
    path = damage.check_is_file(path, "file")
    with damage.explained(path, "as a file of `tf_keras_optim`"):
        whole = checksums.verify_line(path)
    if not whole:
        raise ValueError(
            f"{str(path)!r} is truncated, damaged, or was not written by tf_keras_optim: it "
            f"does not end in its checksum. Nothing was loaded. `{plain}` reads a file of "
            "Keras' own without a check."
        )
    return path


def check_archive(path: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Checks what a model's archive declares and names before Keras reads it.

    Args:
      path: a `.keras` file.
      options: what Keras' `load_model` gets.

    Raises:
      ValueError: a member is larger than can be, or the config names what is not known.
    """
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            archives.member(archive, name)
        content = archives.text(archive, "config.json", damage.MOST_JSON)
        config = damage.json_object(content, "config.json")
    if options.get("safe_mode", True):
        model_configs.check(config, repr(str(path)), options.get("custom_objects"))


@contextlib.contextmanager
def _unpacked(path: pathlib.Path, options: Mapping[str, Any]) -> Iterator[str]:
    """Yields where Keras reads a model from: for Keras 3, where it can be, a directory.

    From an archive Keras 3 takes all weights into memory before it makes variables of them.
    """
    check_archive(path, options)
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path))
        if not _IS_KERAS_3 or sorted(archive.namelist()) != _MEMBERS:
            yield str(path)
            return
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in _MEMBERS:
            with open(directory / name, "wb") as file:
                archives.copy(archive, name, file)
        yield str(directory)


@contextlib.contextmanager
def _without_waiting_state(optimizer: Any) -> Iterator[None]:
    """Lets an optimizer of ours wait for what it waited for before, if the block raises."""
    wrapper, optimizer = optimizer, getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(optimizer, Optimizer):
        yield
        return
    pending = optimizer.tko.state.pending
    before, scale = pending.given, around.waiting(wrapper)
    try:
        yield
    except BaseException:
        pending.given = before
        if wrapper is not optimizer:
            around.let_wait(wrapper, scale)
        raise


def _variables_of(model: Any) -> Iterator[Any]:
    """Yields all that a file of weights may set."""
    yield from model.variables
    for metric in model.metrics:
        yield from metric.variables
    optimizer = getattr(model, "optimizer", None)
    listed = getattr(optimizer, "variables", ())
    yield from listed() if callable(listed) else listed
