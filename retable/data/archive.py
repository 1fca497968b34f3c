"""Single members out of zip and tar archives.

A member's name selects bytes and nothing else: where they are written is the caller's choice, so no name in
an archive can reach outside the data folder. Names are matched exactly, but for repeated slashes: some copies
of TUDataset's zips hold `MUTAG//MUTAG_A.txt`, others `MUTAG/MUTAG_A.txt`.
"""

import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from retable.data.containers import DataError

# What the standard library raises on bytes that are no sound archive: of OSError and ValueError too, where a place in
# the file is none, and of RuntimeError for a member with a password.
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(ArithmeticError, LookupError, RuntimeError, ValueError),
)


class ArchiveError(DataError):
    """The archive cannot be read, or lacks a member."""


def extract(archive: Path, member: str, target: Path, limit: int) -> None:
    """Write the named member to `target`: `limit` + 1 bytes at most, so that a bomb shows as a wrong size.

    Raises ArchiveError for a damaged archive and for a name that is no regular file in it.
    """
    with target.open("wb") as writer:
        for block in _blocks(archive, member, limit + 1):
            writer.write(block)


def _blocks(archive: Path, member: str, remaining: int) -> Iterator[bytes]:
    """The member's bytes. What goes wrong here is the archive's fault, not the target's."""
    try:
        with _opened(archive, member) as stream:
            while remaining and (block := stream.read(min(remaining, 1 << 20))):
                yield block
                remaining -= len(block)
    except ArchiveError:
        raise
    except DAMAGED as error:
        raise ArchiveError(f"{archive.name} is not a readable archive ({type(error).__name__})") from None


@contextmanager
def _opened(archive: Path, member: str) -> Iterator[IO[bytes]]:
    missing = ArchiveError(f"{archive.name} holds no file {member!r}")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            named = _named(member, bundle.namelist())
            if named is None:
                raise missing
            with bundle.open(named) as stream:
                yield stream
        return
    with tarfile.open(archive) as bundle:
        named = _named(member, bundle.getnames())
        if named is None:
            raise missing
        info = bundle.getmember(named)
        content = bundle.extractfile(info) if info.isfile() else None
        if content is None:
            raise missing
        with content:
            yield content


def _named(member: str, names: list[str]) -> str | None:
    """The name in the archive that is `member` but for repeated slashes; an exact one goes first."""
    if member in names:
        return member
    slashes = re.compile("/{2,}")
    wanted = slashes.sub("/", member)
    return next((name for name in names if slashes.sub("/", name) == wanted), None)
