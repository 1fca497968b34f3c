"""Which files have the hash that their card says, remembered so that large files are hashed once.

For each verified file a marker below `<raw>/.verified/` notes size, time of change and hash; a file is hashed
again when any of the three differs. Delete the folder to have everything hashed again.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from retable.cards import DataFile, DatasetCard
from retable.data.containers import DataError

MARKERS = ".verified"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def problem(file: DataFile, path: Path) -> str | None:
    """What is wrong with the bytes at `path`, as the end of a sentence; None if they are the card's."""
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != file.bytes:
        return f"has {size:,} bytes, expected {file.bytes:,}"
    if (got := sha256_of(path)) != file.sha256:
        return f"has sha256 {got}, expected {file.sha256}"
    return None


def require_verified(card: DatasetCard, raw: Path) -> None:
    """Raise DataError unless all files of the card are below `raw` and have its hashes."""
    for file in card.files:
        if is_marked(file, raw):
            continue
        if wrong := problem(file, raw / file.path):
            raise DataError(f"{card.name}: {raw / file.path} {wrong}; run `retable data fetch {card.name}`")
        mark(file, raw)


def is_marked(file: DataFile, raw: Path) -> bool:
    """Whether the file was verified and has not changed since, as far as size and time of change tell."""
    try:
        return (raw / MARKERS / file.path).read_text() == _stamp(file, raw)
    except OSError:
        return False


def mark(file: DataFile, raw: Path) -> None:
    """Note that a file was verified. A read-only folder costs a hash each time, nothing else."""
    marker = raw / MARKERS / file.path
    temporary = marker.with_name(f"{marker.name}.{os.getpid()}.tmp")
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(_stamp(file, raw))
        temporary.replace(marker)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _stamp(file: DataFile, raw: Path) -> str:
    status = (raw / file.path).stat()
    return f"{status.st_size} {status.st_mtime_ns} {file.sha256}\n"
