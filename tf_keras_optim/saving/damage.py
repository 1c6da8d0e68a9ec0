"""One clear error, with the path, for whatever a damaged or foreign file does to a reader."""

import contextlib
import json
import os
import pathlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

MOST_JSON = 1 << 24  # bytes
# What damaged files make the readers raise.
KINDS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    OSError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
    tf.errors.OpError,
)


@contextlib.contextmanager
def explained(path: Any, text: str, named: str | None = None) -> Iterator[None]:
    """Turns what a reader raises into a `ValueError` that begins with the path.

    Args:
      path: the file.
      text: what it cannot be read as, e.g. "as the state of an optimizer".
      named: how the path stands in a `ValueError` that says all by itself, or `None`.
    """
    try:
        yield
    except KINDS as error:
        says_all = isinstance(error, ValueError) and named is not None and named in str(error)
        if says_all or isinstance(error, (ExplainedError, FileNotFoundError)):
            raise
        shown = str(error)[:2000] or "no more is known"
        raise ExplainedError(
            f"{str(path)!r} cannot be read {text} ({type(error).__name__}: {shown}). It is "
            "damaged, or another kind of file; nothing was loaded. Use an earlier one."
        ) from error


class ExplainedError(ValueError):
    """An error that names its file already."""


def check_is_file(path: str | os.PathLike, what: str) -> pathlib.Path:
    """Returns a path that is a plain file, or a link to one: a pipe would be waited for.

    Args:
      path: the path.
      what: what is looked for, for messages, e.g. "state file".

    Raises:
      FileNotFoundError: there is nothing.
      ValueError: it is a directory, a pipe, a device or a socket.
    """
    path = pathlib.Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"There is no {what} {str(path)!r}.") from error
    except OSError as error:  # links in a ring, a name that is too long, no permission
        raise ExplainedError(f"{str(path)!r} cannot be opened as a {what}: {error}.") from error
    kinds = {"a directory": stat.S_ISDIR, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    if not stat.S_ISREG(mode):
        kind = next((name for name, test in kinds.items() if test(mode)), "a device")
        raise ExplainedError(f"{str(path)!r} is {kind}, not a {what}. Give the path of a file.")
    return path


def json_object(content: bytes | str, name: str) -> dict[str, Any]:
    """Returns a JSON object from text that came from a file.

    Args:
      content: the text.
      name: what it is, for messages.

    Raises:
      ValueError: it is larger than a description can be, or no JSON object.
      RecursionError: it is nested too deeply.
    """
    if len(content) > MOST_JSON:
        raise ValueError(f"{name} is larger than {MOST_JSON} bytes")
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError(f"{name} is a JSON {type(found).__name__}, expected an object")
    return found
