"""Keras' own files, written whole or not at all and checked before they are read.

The bytes of the file are Keras'; a line with their SHA-256 follows them, which Keras and
the readers of HDF5 and zip archives do not look at. HDF5 itself notices little of what is
damaged, and may crash on it.
"""

import os
import pathlib
import shutil
import tempfile
from typing import Any

import tf_keras_optim.saving.atomic as atomic
import tf_keras_optim.saving.checksums as checksums
from tf_keras_optim.faces.running import keras

_MARK = b"\ntf_keras_optim sha256 "
_DIGEST = 64
_CHUNK = 1 << 20


def save_model(model: Any, path: str | os.PathLike) -> None:
    """Writes a model with its optimizer's state to a `.keras` file, whole or not at all.

    Args:
      model: a Keras model.
      path: ends in ".keras"; its directory must exist. Keras' `load_model` reads it too.

    Raises:
      ValueError: `path` ends in something else.
    """
    _save(model.save, path, ".keras")


def load_model(path: str | os.PathLike, **options: Any) -> Any:
    """Reads a model that `save_model` wrote, after checking every byte.

    Args:
      path: the file.
      **options: as for Keras' `load_model`, e.g. `custom_objects` or `safe_mode`.

    Returns:
      The model, compiled, with its optimizer's state.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or was not written by `save_model`.
    """
    _verify(path, ".keras", "keras.models.load_model")
    return keras.models.load_model(str(path), **options)


def save_weights(model: Any, path: str | os.PathLike) -> None:
    """Writes weights and optimizer state to a `.weights.h5` file, whole or not at all.

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

    Args:
      model: a Keras model, built and compiled.
      path: the file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, was not written by `save_weights`, or does not fit.
    """
    _verify(path, ".weights.h5", "model.load_weights")
    model.load_weights(str(path))


def _check_suffix(path: pathlib.Path, suffix: str) -> None:
    if not path.name.endswith(suffix):
        raise ValueError(f"Argument `path` must end in {suffix!r}. Received: {str(path)!r}.")


def _save(save: Any, path: str | os.PathLike, suffix: str) -> None:
    path = pathlib.Path(path)
    _check_suffix(path, suffix)
    # Beside the target, as that disk has the room; Keras wants a name with its suffix.
    with tempfile.TemporaryDirectory(prefix=".saving_", dir=path.parent) as directory:
        written = pathlib.Path(directory) / f"model{suffix}"
        save(str(written))
        with open(written, "rb") as source, atomic.replaced(path) as target:
            shutil.copyfileobj(source, target, _CHUNK)
            source.seek(0)
            target.write(_MARK + checksums.of_file(source).encode())


def _verify(path: str | os.PathLike, suffix: str, plain: str) -> None:
    path = pathlib.Path(path)
    _check_suffix(path, suffix)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    trailer = len(_MARK) + _DIGEST
    size = path.stat().st_size - trailer
    with open(path, "rb") as file:
        file.seek(max(size, 0))
        end = file.read(trailer)
        if size < 0 or not end.startswith(_MARK):
            raise ValueError(
                f"{str(path)!r} is truncated, damaged, or was not written by tf_keras_optim: "
                f"it does not end in its checksum. Nothing was loaded. `{plain}` reads a file "
                "of Keras' own without a check."
            )
        file.seek(0)
        found = checksums.of_file(file, size)
    if found.encode() != end[len(_MARK) :]:
        raise ValueError(
            f"{str(path)!r} is damaged: its SHA-256 is {found}, but should be "
            f"{end[len(_MARK) :].decode(errors='replace')}. Nothing was loaded. Use an "
            "earlier file."
        )
