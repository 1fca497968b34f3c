"""The folder that a site is drawn into, beside the one that it replaces: what did not change is taken from there.

A hidden list in every site names its files, what each was made from and whose they are, so that a redraw replaces a
site and never some other folder, and draws only what changed.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from retable.cards import CardError

MARKER = ".retable-site"
ABOUT = "A site drawn by retable; a redraw replaces this folder."


@dataclass(frozen=True)
class Drawn:
    """A site that is there: what each owner (a paper, or "" for all) was drawn from, its files with their sizes, and
    what single files were made from.
    """

    root: Path
    keys: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)

    def whole(self, owner: str) -> bool:
        """Whether all files of an owner are there with the size that they had."""
        try:
            return all(os.stat(self.root / path).st_size == size for path, size in self.files[owner].items())
        except (KeyError, OSError):
            return False

    def is_of(self, keys: Mapping[str, str]) -> bool:
        """Whether the whole site was drawn from this, and is untouched."""
        return bool(keys) and keys == self.keys and all(self.whole(owner) for owner in keys)


def drawn(root: Path) -> Drawn:
    """What is known of the site in `root`; nothing where there is none, or an older one."""
    try:
        data = json.loads((root / MARKER).read_text(encoding="utf-8"))
        return Drawn(root, dict(data["keys"]), dict(data["files"]), dict(data["made"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Drawn(root)


@dataclass
class Folder:
    """A new site."""

    root: Path
    before: Drawn
    files: dict[str, list[str]] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    owner: str = ""

    def path(self, name: str) -> Path:
        """Where a file of the present owner goes; its folder is made."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # What was taken over is a link to the file of the site before, which stays as it is.
        path.unlink(missing_ok=True)
        self.files.setdefault(self.owner, []).append(name)
        return path

    def paths(self, base: str, suffixes: Sequence[str]) -> list[Path]:
        """As `path`, for files of one name that are written together."""
        return [self.path(f"{base}{suffix}") for suffix in suffixes]

    def write(self, name: str, text: str) -> None:
        """Write a file of the present owner."""
        self.path(name).write_text(text, encoding="utf-8")

    def reuse(self, name: str, key: str) -> bool:
        """Take a file over if the site before has it, made from the same; else note what it will be made from."""
        self.made[name] = key
        if self.before.made.get(name) != key or not (self.before.root / name).is_file():
            return False
        _link(self.before.root / name, self.path(name))
        return True

    def take_over(self, owner: str) -> None:
        """All files of an owner, from the site before."""
        self.owner = owner
        for name in self.before.files[owner]:
            _link(self.before.root / name, self.path(name))
            if name in self.before.made:
                self.made[name] = self.before.made[name]

    def close(self, keys: Mapping[str, str]) -> None:
        """Write the list."""
        sizes = {
            owner: {name: os.stat(self.root / name).st_size for name in sorted(set(names))}
            for owner, names in sorted(self.files.items())
        }
        known: dict[str, Any] = {"about": ABOUT, "keys": dict(keys), "files": sizes, "made": self.made}
        (self.root / MARKER).write_text(json.dumps(known, sort_keys=True), encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    with suppress(FileExistsError):
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            shutil.copyfile(source, target)


def _lock(out: Path) -> FileLock:
    return FileLock(out.with_name(f".{out.name}.lock"))


def _sweep(out: Path, own: Path | None = None) -> None:
    """Who holds the lock draws alone: other folders of such names than his `own` are of drawings that were killed."""
    for left in out.parent.glob(f".{out.name}.*/"):
        if left != own:
            shutil.rmtree(left, ignore_errors=True)


def sweep(out: Path) -> None:
    """Remove what drawings left that were killed; for a call that draws nothing itself."""
    if any(out.parent.glob(f".{out.name}.*/")):
        with _lock(out):
            _sweep(out)


@contextmanager
def new_site(out: Path, keys: Mapping[str, str] | None = None) -> Iterator[Folder]:
    """A folder that takes the place of `out` once it is complete. Raises CardError when `out` holds something else."""
    if out.exists() and any(out.iterdir()) and not (out / MARKER).exists():
        raise CardError(f"{out} is not a site that retable drew; choose an empty folder, or delete this one")
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        _lock(out),
        TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary,
    ):
        _sweep(out, Path(temporary))
        folder = Folder(Path(temporary) / "site", drawn(out))
        folder.root.mkdir()
        yield folder
        folder.close(keys or {})
        if out.exists():
            out.rename(Path(temporary) / "old")
        folder.root.rename(out)


def hash_files(paths: Iterable[Path], root: Path, digest: Any) -> None:
    """Add names and contents of files to a digest; one that is gone meanwhile counts as absent."""
    for path in paths:
        with suppress(OSError):
            data = path.read_bytes()
            digest.update(f"{path.relative_to(root)}\0{len(data)}\0".encode())
            digest.update(data)
