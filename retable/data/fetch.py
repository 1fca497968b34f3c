"""Get a card's files: from a mirror or from upstream, hashed before anything parses them.

A file is written beside its place, hashed, flushed and renamed; only then does it have its name. So a
transfer that was cut, altered or killed leaves nothing that looks finished.
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from retable.cards import Archive, DataFile, DatasetCard
from retable.data.archive import ArchiveError, extract
from retable.data.containers import DataError
from retable.data.download import Advance, Miss, copy, download
from retable.data.verified import is_marked, mark, problem, sha256_of

__all__ = ["DataError", "check", "fetch"]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
HINTS = {
    b"<!doctype html": "that is a web page: a login or proxy page, or the address has moved",
    b"<html": "that is a web page: a login or proxy page, or the address has moved",
    b"version https://git-lfs": "that is a Git LFS pointer, not the file that it points to",
}


def check(card: DatasetCard, raw: Path) -> list[str]:
    """What is wrong with a card's files below `raw`, one line each; every file is hashed again."""
    return [f"{file.path} {wrong}" for file in card.files if (wrong := problem(file, raw / file.path))]


def fetch(card: DatasetCard, raw: Path, mirror: str | None = None, progress: bool = False) -> list[Path]:
    """Bring all files of a card below `raw` and return their paths; files that are there and right are kept.

    `mirror` (or the environment's RETABLE_MIRROR) is a folder or an address under which files lie by the
    card's `path`; what it lacks is asked for upstream. `progress` shows a bar if the error stream is a
    terminal. Raises DataError, in one line, for a file with a wrong hash (which is kept aside under a name
    that says so), for files that no origin gives, and for a full disk.
    """
    mirror = mirror or os.environ.get("RETABLE_MIRROR") or None
    check_mirror(mirror)
    if card.local and not (raw / card.local).is_dir():
        raise DataError(
            f"{card.name} is not downloaded ({card.licence}): put it, or a link to it, at {raw / card.local}"
        )
    wanted = [file for file in card.files if not is_marked(file, raw)]
    if not wanted:
        return [raw / file.path for file in card.files]
    try:
        (raw / ".locks").mkdir(parents=True, exist_ok=True)
        with FileLock(raw / ".locks" / card.name), _bar(card, wanted, progress) as advance:
            for file in wanted:
                _fetch_file(card, file, raw, mirror, advance)
            _drop_archives(card, raw)
    except OSError as error:
        if error.errno in READ_ONLY and not check(card, raw):
            return [raw / file.path for file in card.files]  # complete, though nothing can be noted there
        if error.errno in FULL:
            free = shutil.disk_usage(raw).free
            raise DataError(
                f"{card.name}: no space left below {raw} ({free / 1e6:,.0f} MB free there, the data have "
                f"{card.bytes / 1e6:,.1f} MB): make room and run it again, it goes on where it stopped"
            ) from None
        raise DataError(f"{card.name}: cannot fetch into {raw}: {error.strerror}: {error.filename}") from None
    return [raw / file.path for file in card.files]


def check_mirror(mirror: str | None) -> None:
    """Raises DataError for a mirror that is no address and no folder that is there."""
    if mirror and not _is_address(mirror) and not Path(mirror).is_dir():
        raise DataError(f"the mirror {mirror!r} is neither a folder nor an http address")


def _fetch_file(card: DatasetCard, file: DataFile, raw: Path, mirror: str | None, advance: Advance) -> None:
    path = raw / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and problem(file, path):
        _set_aside(path, path)
    if path.exists():
        advance(file.bytes)
        return mark(file, raw)

    misses = [f"no address serves it ({file.derived})"] if file.derived else []
    for origin, get in _origins(card, file, raw, mirror, advance):
        try:
            _place(card, file, get(), path, origin)
            return mark(file, raw)
        except Miss as miss:
            misses.append(str(miss))
        except DataError:
            # An archive that gave a wrong file would give it for ever, also when the server has the right one again.
            if file.archive:
                _local(card, file.archive, raw).unlink(missing_ok=True)
            raise
    raise DataError(
        f"{card.name}: cannot fetch {file.path}: {'; '.join(misses)}. Without a network, set RETABLE_MIRROR "
        "to a folder that holds this path"
    )


def _origins(
    card: DatasetCard, file: DataFile, raw: Path, mirror: str | None, advance: Advance
) -> Iterator[tuple[str, Callable[[], Path]]]:
    """Where the file can come from, in order, each with what brings its bytes beside their place."""
    part = _beside(raw / file.path)
    if mirror and _is_address(mirror):
        address = f"{mirror.rstrip('/')}/{quote(file.path)}"
        yield address, lambda: _download(address, part, file.bytes, file.sha256, advance)
    elif mirror:
        yield mirror, lambda: copy(Path(mirror) / file.path, part, advance)
    if file.url:
        url = file.url
        yield url, lambda: _download(url, part, file.bytes, file.sha256, advance)
    if file.archive:
        archive = file.archive
        yield archive.url, lambda: _member(card, archive, file, raw, mirror, advance)


def _download(url: str, part: Path, size: int | None, sha256: str | None, advance: Advance) -> Path:
    if download(url, part, size, advance) and sha256 and sha256_of(part) != sha256:
        # The first half may have come from elsewhere, or from before a change upstream.
        part.unlink()
        download(url, part, size, advance)
    return part


def _member(
    card: DatasetCard, archive: Archive, file: DataFile, raw: Path, mirror: str | None, advance: Advance
) -> Path:
    """The file's bytes out of its archive, which is brought here if it is not here yet."""
    assert file.member is not None
    local = _local(card, archive, raw)
    if not local.exists():
        local.parent.mkdir(parents=True, exist_ok=True)
        part = _archive(archive, _beside(local), mirror, advance)
        if archive.sha256 and (got := sha256_of(part)) != archive.sha256:
            kept = _set_aside(part, local)
            raise DataError(
                f"{card.name}: {archive.url} has sha256 {got}, expected {archive.sha256}; kept as {kept}{_hint(kept)}"
            )
        part.replace(local)
    part = _beside(raw / file.path)
    try:
        extract(local, file.member, part, file.bytes)
    except ArchiveError as error:
        kept = _set_aside(local, local)
        raise DataError(f"{card.name}: {error} (from {archive.url}); kept as {kept}{_hint(kept)}") from None
    return part


def _archive(archive: Archive, part: Path, mirror: str | None, advance: Advance) -> Path:
    """The archive's bytes beside their place: from the mirror if it keeps the archive, else from upstream."""
    if mirror and archive.path:
        with suppress(Miss):
            if not _is_address(mirror):
                return copy(Path(mirror) / archive.path, part, advance)
            address = f"{mirror.rstrip('/')}/{quote(archive.path)}"
            return _download(address, part, None, archive.sha256, advance)
    return _download(archive.url, part, None, archive.sha256, advance)


def _place(card: DatasetCard, file: DataFile, part: Path, path: Path, origin: str) -> None:
    """Give the file its name if it has the card's hash."""
    if wrong := problem(file, part):
        kept = _set_aside(part, path)
        raise DataError(f"{card.name}: {file.path} from {origin} {wrong}; kept as {kept}{_hint(kept)}")
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _set_aside(bad: Path, path: Path) -> Path:
    return bad.replace(path.with_name(f"{path.name}.rejected-{sha256_of(bad)[:8]}"))


def _hint(kept: Path) -> str:
    with kept.open("rb") as stream:
        head = stream.read(256).lstrip().lower()
    return next((f": {hint}" for mark, hint in HINTS.items() if head.startswith(mark)), "")


def _local(card: DatasetCard, archive: Archive, raw: Path) -> Path:
    return raw / ".archives" / card.name / archive.url.rstrip("/").rsplit("/", 1)[-1]


def _drop_archives(card: DatasetCard, raw: Path) -> None:
    for file in card.files:
        if file.archive:
            _local(card, file.archive, raw).unlink(missing_ok=True)


def _is_address(origin: str) -> bool:
    return origin.startswith(("http://", "https://"))


@contextmanager
def _bar(card: DatasetCard, files: list[DataFile], shown: bool) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    off = not (shown and sys.stderr.isatty())
    with Progress(*columns, console=Console(stderr=True), disable=off) as bar:
        task = bar.add_task(card.name, total=sum(file.bytes for file in files))
        yield lambda count: bar.advance(task, count)
