"""Writing a file aside and renaming it, so that a reader finds it whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import socket
import tempfile
from collections.abc import Iterator
from typing import IO

_SUFFIX = ".partial"


@contextlib.contextmanager
def replaced(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of `path` when the block ends without an error.

    It is written beside `path`, under a name of its own, flushed to the disk, and renamed.
    What processes that were killed have left behind is removed.

    Args:
      path: the file to write or to replace, on a local or mounted file system.

    Yields:
      file: the file to write to.
    """
    target = pathlib.Path(path)
    aside = target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}{_SUFFIX}")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    _sync_directory(target.parent)
    _remove_leftovers(target)


@contextlib.contextmanager
def replaced_directory(path: str | os.PathLike, mark: str) -> Iterator[pathlib.Path]:
    """Yields a directory that takes the place of `path` when the block ends without an error.

    Args:
      path: the directory to write or to replace.
      mark: name of a file that a directory has which may be replaced.

    Yields:
      directory: an empty directory beside `path`.

    Raises:
      ValueError: `path` is there and has no such file.
    """
    target = pathlib.Path(path)
    if target.exists() and not (target / mark).is_file():
        raise ValueError(
            f"{str(target)!r} is there already and has no {mark!r}, so it is not replaced. "
            "Give another path, or remove it."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        written, before = aside / "new", aside / "old"
        written.mkdir()
        yield written
        for file in written.rglob("*"):
            if file.is_file():
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
        if target.exists():
            target.rename(before)
        written.rename(target)
    finally:
        shutil.rmtree(aside)
    _sync_directory(target.parent)


def _sync_directory(directory: pathlib.Path) -> None:
    if os.name != "posix":
        return  # elsewhere a directory cannot be opened
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_leftovers(target: pathlib.Path) -> None:
    """Removes files of dead processes of this machine."""
    prefix = f".{target.name}.{socket.gethostname()}."
    for path in target.parent.iterdir():
        if not (path.name.startswith(prefix) and path.name.endswith(_SUFFIX)):
            continue
        number = path.name[len(prefix) : -len(_SUFFIX)]
        if number.isdigit() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # cannot be asked without harm
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
