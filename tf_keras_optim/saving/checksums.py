"""The SHA-256 of a file in a line after its last byte, and of all files in a directory."""

import hashlib
import json
import os
import pathlib
from typing import Any

import tf_keras_optim.saving.damage as damage

_LIST = pathlib.PurePosixPath("assets.extra/tf_keras_optim.json")
_CHUNK = 1 << 20
_DIGEST = 64
MARK = b"\ntf_keras_optim sha256 "


def of_file(file: Any, size: int | None = None) -> str:
    """Returns the SHA-256 of the next bytes of a file, of all of them for `None`."""
    digest = hashlib.sha256()
    left = size
    while left is None or left > 0:
        chunk = file.read(_CHUNK if left is None else min(_CHUNK, left))
        if not chunk:
            break
        digest.update(chunk)
        left = None if left is None else left - len(chunk)
    return digest.hexdigest()


def verify_line(path: str | os.PathLike) -> bool:
    """Checks the bytes of a file against the line after them; says whether there is one.

    Raises:
      ValueError: the bytes are not those that the line was made of.
    """
    length = len(MARK) + _DIGEST
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size - length
        file.seek(max(size, 0))
        end = file.read(length)
        if size < 0 or not end.startswith(MARK):
            return False
        file.seek(0)
        found = of_file(file, size)
    if found.encode() != end[len(MARK) :]:
        raise damage.ExplainedError(
            f"{str(path)!r} is damaged: its SHA-256 is {found}, but should be "
            f"{end[len(MARK) :].decode(errors='replace')}. Nothing was loaded. Use an "
            "earlier file."
        )
    return True


def _of_directory(directory: pathlib.Path) -> dict[str, str]:
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name != str(_LIST):
            with open(path, "rb") as file:
                found[name] = of_file(file)
    return found


def write(directory: pathlib.Path) -> None:
    """Writes the list of all files with their sums into a directory."""
    target = directory / _LIST
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(_of_directory(directory)))


def verify(directory: pathlib.Path) -> None:
    """Checks every file of a directory.

    Raises:
      ValueError: a file is missing, damaged or new, or the list itself is.
    """
    try:
        listed = damage.check_is_file(directory / _LIST, "list of checksums")
        if listed.stat().st_size > damage.MOST_JSON:
            raise ValueError(f"it is larger than {damage.MOST_JSON} bytes")
        expected = json.loads(listed.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise damage.ExplainedError(
            f"{str(directory)!r} is damaged, or was not written by tf_keras_optim: its list of "
            f"checksums, {str(_LIST)!r}, cannot be read ({error}). Use an earlier one."
        ) from error
    found = _of_directory(directory)
    if found != expected:
        both = {*found, *(expected if isinstance(expected, dict) else {})}
        known = expected if isinstance(expected, dict) else {}
        wrong = sorted(name for name in both if found.get(name) != known.get(name))
        raise damage.ExplainedError(
            f"{str(directory)!r} is damaged: {', '.join(wrong) or 'the list of checksums'} "
            "differ from what was written. Nothing was loaded. Use an earlier one."
        )
