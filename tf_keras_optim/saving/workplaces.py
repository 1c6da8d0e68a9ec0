"""Directories beside a target in which a file is written before it takes the target's place.

A workplace is locked by the process that made it. The system drops the lock when the process
ends, however it ends; so whoever gets the lock knows that nobody writes there any more.
Process numbers would not tell, as every machine and every container has its own.
"""

import contextlib
import errno
import functools
import os
import pathlib
import re
import secrets
import shutil
import time
import warnings
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # on Windows, where no workplace of another process is removed
    fcntl = None  # type: ignore[assignment]

# In a workplace: a directory that was there before, and a file with the name it had.
OLD = "old"
NOTE = "name_of_old"

_UNKNOWN_SYSTEM = "0" * 32
_NAME = re.compile(r"\.tf_keras_optim-([0-9a-f]{32})-[0-9a-f]{16}\.partial")
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")
_ABANDONED = 24 * 3600.0  # seconds without a change
# What file systems answer that have no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)
_MISSING = (FileNotFoundError, NotADirectoryError, PermissionError)


@contextlib.contextmanager
def beside(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields an empty directory beside `target`, which is removed with all that is in it.

    What processes that were killed have left beside `target` is removed first.

    Raises:
      OSError: nothing can be written there.
    """
    remove_leftovers(target.parent)
    place = target.parent / f".tf_keras_optim-{_system()}-{secrets.token_hex(8)}.partial"
    with contextlib.ExitStack() as handles:
        try:
            _make(place, target, handles)
            yield place
        finally:
            if place.exists():
                _discard(place)


def remove_leftovers(directory: pathlib.Path) -> None:
    """Removes the workplaces in a directory whose processes have ended.

    Where the lock does not tell, as it was made under another system (another machine with
    the same disk, or this one before it was started anew) or the file system has no locks, a
    workplace is taken for abandoned when nothing in it has changed for a day.
    """
    for place in _places(directory):
        with _claimed(place) as claim:
            if claim is False or not ((claim and _is_of_here(place)) or _is_old(place)):
                continue
            try:
                _discard(place)
            except OSError as error:
                warnings.warn(
                    f"{str(place)!r} was left by a process that was killed and cannot be "
                    f"removed: {error}. Remove it.",
                    stacklevel=2,
                )


def put_back(target: pathlib.Path) -> None:
    """Puts a directory back in its place if a process was killed while it replaced it.

    Only file systems that cannot exchange two names in one operation need this. A process
    that is just replacing the directory is waited for.
    """
    if os.path.lexists(target) or not target.parent.is_dir():
        return
    for place in _places(target.parent):
        if _noted(place) == target.name:
            with _claimed(place, wait=True) as claim:
                if claim is not False:
                    _put_back(place)


@functools.cache
def _system() -> str:
    """Returns what tells running systems apart; all containers of a machine have one."""
    try:
        found = _BOOT_ID.read_text().strip().replace("-", "")
    except _MISSING:
        return _UNKNOWN_SYSTEM  # not Linux
    return found if re.fullmatch("[0-9a-f]{32}", found) else _UNKNOWN_SYSTEM


def _places(directory: pathlib.Path) -> list[pathlib.Path]:
    with os.scandir(directory) as entries:
        return [directory / entry.name for entry in entries if _NAME.fullmatch(entry.name)]


def _make(place: pathlib.Path, target: pathlib.Path, handles: contextlib.ExitStack) -> None:
    """Makes a directory and locks it for as long as `handles` are open."""
    while True:
        try:
            place.mkdir(mode=0o700)
        except OSError as error:
            message = f"{error.strerror}, so nothing can be written beside it"
            raise OSError(error.errno, message, str(target)) from error
        if fcntl is None:
            return
        with contextlib.suppress(FileNotFoundError):
            handle = _open(place)
            handles.callback(os.close, handle)
            # Another process may have found it unlocked and removed it.
            if _lock(handle, wait=True) is None or _is_there(place, handle):
                return


@contextlib.contextmanager
def _claimed(place: pathlib.Path, wait: bool = False) -> Iterator[bool | None]:
    """Locks a workplace.

    Yields:
      claim: `True` with the lock, `False` if another process has it or the place is gone or
        another user's, `None` if there are no locks.
    """
    if fcntl is None:
        yield None
        return
    try:
        handle = _open(place)
    except _MISSING:
        yield False
        return
    try:
        claim = _lock(handle, wait)
        yield claim if _is_there(place, handle) else False
    finally:
        os.close(handle)


def _open(place: pathlib.Path) -> int:
    return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _lock(handle: int, wait: bool) -> bool | None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_there(place: pathlib.Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(place), os.fstat(handle))
    except FileNotFoundError:
        return False


def _is_of_here(place: pathlib.Path) -> bool:
    match = _NAME.fullmatch(place.name)
    return match is not None and match[1] == _system() != _UNKNOWN_SYSTEM


def _is_old(place: pathlib.Path) -> bool:
    """Says whether nothing in a workplace has changed for long."""
    latest = 0.0
    for path in (place, *place.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # its process may still be there
            latest = max(latest, path.lstat().st_mtime)
    return fcntl is not None and time.time() - latest > _ABANDONED


def _discard(place: pathlib.Path) -> None:
    _put_back(place)
    shutil.rmtree(place)


def _noted(place: pathlib.Path) -> str | None:
    try:
        name = os.fsdecode((place / NOTE).read_bytes())
    except _MISSING:
        return None
    return name if name and pathlib.PurePath(name).name == name else None


def _put_back(place: pathlib.Path) -> None:
    name, old = _noted(place), place / OLD
    if name is not None and old.exists() and not os.path.lexists(place.parent / name):
        old.rename(place.parent / name)
