"""Looks: the numbers of seeds at which a cell is judged. More seeds must not manufacture differences.

A cell is judged at look one, its planned seeds, and once more at look two, a larger number that was fixed before; each
look has half of the level, and there is no third. `results/published/looks.csv` holds the looks of what is published;
`retable publish` writes it. `docs/statistics.md` gives the rule.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retable.cards import MOST_SEEDS, CardError, read_text
from retable.plan import Cell
from retable.records import RunRecord, write_atomically

LOOKS = "results/published/looks.csv"
# The identity says it all, with the protocol's version; the others are for people.
COLUMNS = ("identity", "paper", "recipe", "scale", "dataset", "variant", "first", "second")


@dataclass(frozen=True)
class Looks:
    """The stored looks: by cell identity the seeds of look one, and of look two where it was begun.

    `lines` holds the columns for people of each identity.
    """

    stored: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def of(self, cell: Cell) -> tuple[int, ...]:
        """Seeds of look one and, where it was begun or the plan asks for more than look one, of look two."""
        stored, planned = self.stored.get(cell.identity, ()), len(cell.seeds)
        if len(stored) == 1 and planned > stored[0]:
            return *stored, planned
        return stored or (planned,)

    def refusal(self, cell: Cell, seeds: int) -> str | None:
        """Why so many seeds of a cell may not be published, in one line; None where they may."""
        looks = self.of(cell)
        if seeds <= looks[-1]:
            return None
        if len(looks) == 2:
            return (
                f"{cell.name}: {seeds} seeds would be a third look; looks were taken at {looks[0]} and {looks[1]} seeds"
            )
        return (
            f"{cell.name}: {seeds} seeds are more than look one, which has {looks[0]}; fix the number of seeds of look "
            "two first, by the card's `seeds` or --seeds"
        )

    def after(self, seeds: Sequence[tuple[Cell, int]]) -> "Looks":
        """The looks once the first so many seeds of some cells are published. Raises CardError for a third look."""
        stored, lines = dict(self.stored), dict(self.lines)
        for cell, count in seeds:
            if refused := self.refusal(cell, count):
                raise CardError(refused)
            first, *second = self.of(cell)
            stored[cell.identity] = (first, *second) if count > first else stored.get(cell.identity, (first,))
            lines[cell.identity] = (cell.paper, cell.recipe, cell.scale, cell.dataset, cell.variant)
        return Looks(stored, lines)

    def write(self, results: Path) -> None:
        """Write the table, sorted. Raises OSError."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for identity in sorted(self.stored, key=lambda each: (self.lines[each], each)):
            first, *second = self.stored[identity]
            writer.writerow([identity, *self.lines[identity], first, second[0] if second else ""])
        write_atomically(_path(results), text.getvalue().encode())


def _path(results: Path) -> Path:
    return results / "published" / Path(LOOKS).name


def load_looks(results: Path, older: Mapping[str, str]) -> Looks:
    """The table beside the published records; empty where there is none. `older` identities are read as today's.

    Raises CardError that names a line that is none.
    """
    path = _path(results)
    try:
        lines = list(csv.reader(read_text(path).splitlines()))
    except FileNotFoundError:
        return Looks()
    except csv.Error as error:
        raise CardError(f"{path}: not CSV ({error}); restore it from git") from None
    if not lines or tuple(lines[0]) != COLUMNS:
        raise CardError(f"{path}: expected the columns {','.join(COLUMNS)}; restore it from git")
    stored, people = {}, {}
    for number, line in enumerate(lines[1:], start=2):
        looks = [text for text in line[-2:] if text]
        right = (
            len(line) == len(COLUMNS) and bool(line[-2]) and all(text.isdecimal() and len(text) < 10 for text in looks)
        )
        counts = tuple(map(int, looks)) if right else ()
        if not counts or counts[0] < 1 or counts[-1] > MOST_SEEDS or sorted(set(counts)) != list(counts):
            raise CardError(
                f"{path}:{number}: expected a cell with the seeds of look one and, if it was begun, of look two, which "
                "has more; restore the line from git"
            )
        identity = older.get(line[0], line[0])
        if identity in stored:
            raise CardError(f"{path}:{number}: the cell {identity} again; delete one of the two lines")
        stored[identity], people[identity] = counts, tuple(line[1:-2])
    return Looks(stored, people)


def seeds_held(records: Iterable[RunRecord]) -> Counter[str]:
    """How many seeds, counted from 0, of each cell these records reach."""
    held = Counter[str]()
    for record in records:
        held[record.identity] = max(held[record.identity], record.seed + 1)
    return held


def in_common(looks: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The looks of what rests on several cells, from the looks that each has completed.

    They are the least of the first looks and the least of the last ones. The latter counts only where a cell that can
    have no further look sets it: what rests on the cells is looked at twice at most, in whatever order they grow.
    """
    first, last = min(each[0] for each in looks), min(each[-1] for each in looks)
    final = any(len(each) == 2 and each[1] == last for each in looks)
    return (first, last) if final and last > first else (first,)
