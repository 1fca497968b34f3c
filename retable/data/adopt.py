"""Make the card of a data set that nobody here could hash, from the user's own download.

    retable data adopt cifar100 ~/cifar-100-binary.tar.gz    # writes datasets/cifar100.yaml
    retable data adopt glue-mrpc ~/mrpc                      # a folder with the files, where they are no archive

`datasets/unpinned/` holds what is known without the bytes. The card pins what the user's files hold, so they are to be
checked against their source by other means before; where a public list gives a file's hash or a set's size, that is
checked here. Until then a data set cannot be planned, fetched or loaded; recipes name it as `own`.
"""

import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import yaml

from retable.cards import Archive, CardError, DataFile, DatasetCard, DatasetFacts, Split, UnpinnedCard
from retable.data.archive import extract
from retable.data.containers import DataError, content_sha256, count, split_sha256
from retable.data.readers import READERS
from retable.data.verified import sha256_of
from retable.records import write_atomically


def adopt(known: UnpinnedCard, source: Path) -> DatasetCard:
    """The data set's card with the sizes and hashes of your archive, or of the files in your folder.

    Raises DataError for files that are missing, damaged or not those of public lists.
    """
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary)
        files = _members(known, known.archive, source, raw) if known.archive else _single_files(known, source, raw)
        facts = {name: getattr(known, name) for name in DatasetFacts.model_fields}
        card = DatasetCard(**facts, files=files, counts={}, content_sha256="0" * 64, splits={})
        data = READERS[known.reader](card, raw)
        counts = count(data)
        if known.rows is not None and counts["rows"] != known.rows:
            raise DataError(
                f"{source} holds {counts['rows']} rows of {known.name}, which is known to have {known.rows}"
            )
        pinned = {
            "counts": counts,
            "content_sha256": content_sha256(data),
            "splits": {
                split: Split(sha256=split_sha256(data.splits[split]), note=note)
                for split, note in known.splits.items()
                if split in data.splits
            },
        }
    return card.model_copy(update=pinned)


def write_card(known: UnpinnedCard, source: Path, root: Path) -> Path:
    """Write `datasets/<name>.yaml`; raises CardError where one is there already."""
    path = root / "datasets" / f"{known.name}.yaml"
    if path.exists():
        raise CardError(f"{path} is there already; a card that is pinned is not written over")
    fields = adopt(known, source).model_dump(exclude_none=True, exclude_defaults=True)
    write_atomically(path, yaml.safe_dump(fields, sort_keys=False, width=112, allow_unicode=True).encode())
    return path


def _members(known: UnpinnedCard, archive: Archive, source: Path, raw: Path) -> list[DataFile]:
    """The members of an archive that are read, extracted below `raw`."""
    if not source.is_file() or not (zipfile.is_zipfile(source) or tarfile.is_tarfile(source)):
        raise DataError(f"{source} is no zip or tar archive; {known.name} is at {archive.url}")
    origin = archive.model_copy(update={"sha256": _checked(known, source, archive.sha256)})
    files = []
    for member in known.members:
        path = f"{Path(archive.path or '').parent}/{member}"
        target = raw / path
        target.parent.mkdir(parents=True, exist_ok=True)
        extract(source, member, target, sys.maxsize - 1)
        size, digest = target.stat().st_size, sha256_of(target)
        files.append(DataFile(path=path, bytes=size, sha256=digest, archive=origin, member=member))
    return files


def _single_files(known: UnpinnedCard, folder: Path, raw: Path) -> list[DataFile]:
    """Files in `folder` by their last names, linked below `raw`; a single one may be given itself."""
    files = []
    if folder.is_file() and len(known.files) == 1:
        folder = folder.parent
    for file in known.files:
        source, target = folder.resolve() / Path(file.path).name, raw / file.path
        if not source.is_file():
            raise DataError(f"{folder} holds no {source.name}; {known.name} needs it from {file.url}")
        digest = _checked(known, source, file.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
        size = source.stat().st_size
        whole = None if file.member else file.url
        archive = Archive(url=file.url) if file.member else None
        files.append(
            DataFile(path=file.path, bytes=size, sha256=digest, url=whole, archive=archive, member=file.member)
        )
    return files


def _checked(known: UnpinnedCard, file: Path, expected: str | None) -> str:
    """The file's SHA-256, which must be the one that is known."""
    digest = sha256_of(file)
    if expected and digest != expected:
        raise DataError(
            f"{file} has sha256 {digest[:12]}, but {file.name} of {known.name} is known by {expected[:12]}: another "
            "file, or damaged"
        )
    return digest
