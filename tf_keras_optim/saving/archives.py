"""Zip archives from anywhere: members are read within what they declare and what can be."""

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from typing import IO

import tf_keras_optim.saving.checksums as checksums

_CHUNK = 1 << 20
_FLOOR = 1 << 26  # bytes; smaller members may unpack as they like
_MOST_EXPANSION = 100  # numbers are hardly compressible; nothing that trains reaches this
_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[zipfile.ZipFile]:
    """Opens an archive, after checking the checksum after its last byte if there is one."""
    checksums.verify_line(path)
    with zipfile.ZipFile(path) as archive:
        yield archive


def member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Returns what an archive says of a member, after checking that this can be.

    Raises:
      ValueError: there is no such member, it is encrypted or in an unknown compression, or
        it declares a size that what is stored cannot unpack to.
    """
    if name not in archive.NameToInfo:
        raise ValueError(f"no {name} in it, but {archive.namelist()[:5]}")
    info = archive.getinfo(name)
    if info.flag_bits & 1:
        raise ValueError(f"member {name} is encrypted")
    if info.compress_type not in _KNOWN:
        raise ValueError(f"member {name} has an unknown compression, {info.compress_type}")
    stored = info.compress_type == zipfile.ZIP_STORED
    sizes = f"declares {info.file_size} bytes, and {info.compress_size} are stored"
    most = max(_FLOOR, _MOST_EXPANSION * info.compress_size)
    if info.file_size > most or (stored and info.file_size != info.compress_size):
        raise ValueError(f"member {name} {sizes}")
    held = os.fstat(archive.fp.fileno()).st_size  # type: ignore[union-attr]
    if info.header_offset + info.compress_size > held:
        raise ValueError(f"member {name} {sizes}, but the file has {held} bytes")
    return info


def text(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Returns a small member's bytes, which are checked.

    Args:
      archive: the archive.
      name: the member's name.
      most: bytes that it may have.
    """
    info = member(archive, name)
    if info.file_size > most:
        raise ValueError(f"{name} has {info.file_size} bytes, and may have {most}")
    return archive.read(name)


@contextlib.contextmanager
def unpacked(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """Yields a temporary file with a member's bytes, which are checked."""
    member(archive, name)
    with tempfile.TemporaryFile(prefix="tf_keras_optim_") as file:
        copy(archive, name, file)
        file.seek(0)
        yield file


def copy(archive: zipfile.ZipFile, name: str, target: IO[bytes]) -> None:
    """Writes a member's bytes, which are checked, to a file."""
    with archive.open(member(archive, name)) as source:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
