"""The SHA-256 of every file in a directory, kept with them."""

import hashlib
import json
import pathlib
from typing import Any

_LIST = pathlib.PurePosixPath("assets.extra/tf_keras_optim.json")
_CHUNK = 1 << 20


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
        expected = json.loads((directory / _LIST).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(directory)!r} is damaged, or was not written by tf_keras_optim: its list of "
            f"checksums, {str(_LIST)!r}, cannot be read ({error}). Use an earlier one."
        ) from error
    found = _of_directory(directory)
    if found != expected:
        both = {*found, *(expected if isinstance(expected, dict) else {})}
        known = expected if isinstance(expected, dict) else {}
        wrong = sorted(name for name in both if found.get(name) != known.get(name))
        raise ValueError(
            f"{str(directory)!r} is damaged: {', '.join(wrong) or 'the list of checksums'} "
            "differ from what was written. Nothing was loaded. Use an earlier one."
        )
