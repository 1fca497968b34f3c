"""Pictures that runs left beside their records, copied into the site."""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retable.plan import Cell
from retable.records import RunRecord
from retable.report.folder import Folder

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


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
    for record in sorted(records, key=lambda record: record.seed) if results else []:
        found = _listed(cell.folder(results), record.seed) if results else []
        shown = []
        for path, entry in found:
            file = f"{cell.identity}-{path.name}"
            shutil.copyfile(path, folder.path(f"pictures/{file}"))
            shown.append(Shown(entry["name"], file, entry["caption"], record.seed, entry["width"], entry["height"]))
        if shown:
            return shown
    return []


def _listed(folder: Path, seed: int) -> list[tuple[Path, dict]]:
    """The pictures that a seed lists and that are there."""
    try:
        lines = (folder / f"seed-{seed}.pictures.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    entries = [json.loads(line) for line in lines]
    paths = [(folder / f"seed-{seed}.{entry['name']}.png", entry) for entry in entries]
    return [(path, entry) for path, entry in paths if NAME.fullmatch(entry["name"]) and path.is_file()]
