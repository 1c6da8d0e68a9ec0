"""Atomic writing: a file is written aside and renamed, so a reader finds all of it or none."""

import contextlib
import ctypes
import errno
import functools
import os
import pathlib
import shutil
import stat
from collections.abc import Callable, Iterator
from typing import IO

import tf_keras_optim.saving.workplaces as workplaces

_EXCHANGE = 2  # RENAME_EXCHANGE of Linux
_HERE = -100  # AT_FDCWD: relative paths start at the current directory
# What systems and file systems answer that cannot exchange two names.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


@contextlib.contextmanager
def replaced(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of `path` when the block ends without an error.

    Args:
      path: as for `written_aside`.

    Yields:
      file: the file to write to.
    """
    with written_aside(path, "file") as aside, open(aside, "wb") as file:
        yield file


@contextlib.contextmanager
def written_aside(path: str | os.PathLike, name: str) -> Iterator[pathlib.Path]:
    """Yields where to write a file that takes the place of `path` when the block ends.

    It is written beside `path`, flushed to the disk and renamed. A symbolic link is followed.
    The mode, and where that is permitted the owner, of the file that is replaced are kept.

    Args:
      path: the file to write or to replace, on a local or mounted file system.
      name: the file's name until then.

    Yields:
      aside: the path of a file that is not there yet, in a directory of its own.

    Raises:
      OSError: `path` is no regular file, must not be written to, or its directory is missing.
    """
    target = pathlib.Path(os.path.realpath(path))
    _check_file(target)
    with workplaces.beside(target) as place:
        yield place / name
        _sync(place / name)
        _keep_rights(target, place / name)
        os.replace(place / name, target)
        _sync_directory(target.parent)


def _check_file(target: pathlib.Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a directory, not a file", str(target))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "Is not a regular file, so it is not replaced", str(target))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "Must not be written to", str(target))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "There is no such directory", str(target.parent))


@contextlib.contextmanager
def replaced_directory(path: str | os.PathLike, mark: str) -> Iterator[pathlib.Path]:
    """Yields a directory that takes the place of `path` when the block ends without an error.

    Where the system can exchange two names at once, there is a whole directory at `path` at
    every moment. Elsewhere it is absent between two renames; if the process is killed there,
    `present` or the next save beside it puts the earlier one back.

    Args:
      path: the directory to write or to replace. A symbolic link is followed.
      mark: name of a file that a directory has which may be replaced.

    Yields:
      directory: an empty directory beside `path`.

    Raises:
      ValueError: `path` may not be replaced, as `check_directory` says.
    """
    target = check_directory(path, mark)
    target.parent.mkdir(parents=True, exist_ok=True)
    with workplaces.beside(target) as place:
        written = place / "new"
        written.mkdir()
        yield written
        for file in (written, *written.rglob("*")):
            _sync(file)
            _keep_rights(target / file.relative_to(written), file)
        _move(written, target, place)
        _sync_directory(target.parent)


def check_directory(path: str | os.PathLike, mark: str) -> pathlib.Path:
    """Returns the directory that a path leads to, which `replaced_directory` may replace.

    Raises:
      ValueError: it has files, but not the one named `mark`; or it is no directory, a mount
        point or the current directory.
    """
    target = present(path)
    if not os.path.lexists(target):
        return target
    if not target.is_dir() or (any(target.iterdir()) and not (target / mark).is_file()):
        raise ValueError(
            f"{str(target)!r} is there already and has no {mark!r}, so it is not replaced. "
            "Give another path, or remove it."
        )
    if os.path.ismount(target) or os.path.samefile(target, os.curdir):
        raise ValueError(
            f"{str(target)!r} is a mount point or the current directory, which cannot be "
            "replaced. Give the path of a directory in it."
        )
    return target


def present(path: str | os.PathLike) -> pathlib.Path:
    """Returns where a directory of `replaced_directory` is.

    One that a killed process has left between two renames is put back.
    """
    target = pathlib.Path(os.path.realpath(path))
    workplaces.put_back(target)
    return target


def _keep_rights(before: pathlib.Path, new: pathlib.Path) -> None:
    """Gives a file the mode and, where permitted, the owner of the one that it replaces."""
    try:
        wanted = before.stat()
    except (FileNotFoundError, NotADirectoryError):
        return  # none: it has what new files have
    mode, now = stat.S_IMODE(wanted.st_mode), new.stat()
    if (now.st_uid, now.st_gid) != (wanted.st_uid, wanted.st_gid):
        try:
            os.chown(new, wanted.st_uid, wanted.st_gid)
        except PermissionError:
            if not _has_group(new, wanted.st_gid):
                # The group is another one: it may do what everybody may.
                mode = (mode & ~0o070) | ((mode & 0o007) << 3)
    if stat.S_IMODE(new.stat().st_mode) != mode:
        os.chmod(new, mode)


def _has_group(path: pathlib.Path, group: int) -> bool:
    """Gives a file another group, and says whether it has it."""
    try:
        os.chown(path, -1, group)
    except PermissionError:
        return False
    return True


def _move(written: pathlib.Path, target: pathlib.Path, place: pathlib.Path) -> None:
    """Puts a directory at `target`; what is there ends in `place`."""
    while True:
        try:
            if not os.path.lexists(target):
                os.rename(written, target)
            elif not _exchanged(written, target):
                _move_in_two_steps(written, target, place)
            return
        except FileNotFoundError:
            if not written.exists():
                raise
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                raise
        # Another process has put a directory there or taken it away in the meantime.


def _move_in_two_steps(
    written: pathlib.Path, target: pathlib.Path, place: pathlib.Path
) -> None:
    old = place / workplaces.OLD
    if old.exists():  # from an earlier turn; `target` is newer
        shutil.rmtree(old)
    (place / workplaces.NOTE).write_bytes(os.fsencode(target.name))
    _sync(place / workplaces.NOTE)
    os.rename(target, old)
    os.rename(written, target)


def _exchanged(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Exchanges two names at once, or returns `False` where the system cannot."""
    rename = _renameat2()
    if rename is None:
        return False
    names = os.fsencode(first), os.fsencode(second)
    if rename(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    if os.name != "posix":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        text, number = ctypes.c_char_p, ctypes.c_int
        function.argtypes = (number, text, number, text, ctypes.c_uint)
        function.restype = number
    return function


def _sync(path: pathlib.Path) -> None:
    """Waits until a file or a directory is on the disk."""
    if path.is_dir():
        _sync_directory(path)
    else:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())


def _sync_directory(directory: pathlib.Path) -> None:
    if os.name != "posix":
        return  # elsewhere a directory cannot be opened
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
