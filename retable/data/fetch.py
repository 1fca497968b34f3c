"""Hash first, parse second: which files of a card are here, and are they the right ones."""

import hashlib
import os
from pathlib import Path

from retable.cards import DataFile, DatasetCard
from retable.data.containers import DataError

MARKERS = ".verified"


def check(card: DatasetCard, raw: Path) -> list[str]:
    """What is wrong with a card's files below `raw`: one line each, none if all have the card's hashes.

    Every file is hashed again, whatever was noted about it before.
    """
    return [problem for file in card.files if (problem := _problem(file, raw))]


def require_verified(card: DatasetCard, raw: Path) -> None:
    """Raise DataError unless all files of the card are here and have its hashes.

    A file that was verified before and has the same size and time of change is not hashed again.
    """
    for file in card.files:
        if _is_marked(file, raw):
            continue
        if problem := _problem(file, raw):
            raise DataError(f"{card.name}: {problem}")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _problem(file: DataFile, raw: Path) -> str | None:
    path = raw / file.path
    if not path.is_file():
        return f"{file.path} is missing below {raw}; fetch it with `retable data fetch`"
    if (size := path.stat().st_size) != file.bytes:
        return f"{file.path} has {size} bytes, expected {file.bytes}; delete it and fetch it again"
    if (got := sha256_of(path)) != file.sha256:
        return f"{file.path} has sha256 {got}, expected {file.sha256}; delete it and fetch it again"
    _mark(file, raw)
    return None


def _stamp(file: DataFile, raw: Path) -> str:
    status = (raw / file.path).stat()
    return f"{status.st_size} {status.st_mtime_ns} {file.sha256}\n"


def _is_marked(file: DataFile, raw: Path) -> bool:
    try:
        return (raw / MARKERS / file.path).read_text() == _stamp(file, raw)
    except OSError:
        return False


def _mark(file: DataFile, raw: Path) -> None:
    """Note that a file was verified. A read-only folder costs a hash each time, nothing else."""
    marker = raw / MARKERS / file.path
    temporary = marker.with_name(f"{marker.name}.{os.getpid()}.tmp")
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(_stamp(file, raw))
        temporary.replace(marker)
    except OSError:
        temporary.unlink(missing_ok=True)
