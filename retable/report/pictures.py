"""Pictures that runs left beside their records, copied into the site."""

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from retable.cards import CardError, Model, read_text
from retable.plan import Cell
from retable.records import RunRecord
from retable.report.folder import Folder


class Entry(Model):
    """A line of a seed's list of pictures."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    caption: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)


@dataclass(frozen=True)
class Shown:
    """A picture in the site: its file below `pictures/`, the seed that it is of, and its size in pixels."""

    name: str
    file: str
    caption: str
    seed: int
    width: int
    height: int


def of_cell(cell: Cell, records: Iterable[RunRecord], results: Path | None, folder: Folder) -> list[Shown]:
    """Copy the pictures of the first of a cell's records that has some into a site; none is no error."""
    place = cell.folder(results) if results else None
    # Published runs left none here: one look at the folder instead of one for each of them.
    if place is None or not place.is_dir():
        return []
    for record in sorted(records, key=lambda record: record.seed):
        found = _listed(place, record.seed)
        shown = []
        for path, entry in found:
            file = f"{cell.identity}-{path.name}"
            shutil.copyfile(path, folder.path(f"pictures/{file}"))
            shown.append(Shown(entry.name, file, entry.caption, record.seed, entry.width, entry.height))
        if shown:
            return shown
    return []


def _listed(folder: Path, seed: int) -> list[tuple[Path, Entry]]:
    """The pictures that a seed lists and that are there."""
    listing = folder / f"seed-{seed}.pictures.jsonl"
    try:
        lines = read_text(listing).splitlines()
    except FileNotFoundError:
        return []
    except (OSError, CardError) as error:
        _leave_out(listing, error)
        return []
    found = []
    for line in lines:
        try:
            entry = Entry.model_validate_json(line)
        except ValidationError:
            _leave_out(listing, "a line that is no picture's")
            continue
        path = folder / f"seed-{seed}.{entry.name}.png"
        if path.is_file():
            found.append((path, entry))
    return found


def _leave_out(listing: Path, why: object) -> None:
    print(f"retable: {listing}: pictures are not shown ({why}); delete it to measure again", file=sys.stderr)
