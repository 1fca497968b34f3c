"""The page of results that others sent: each cell beside what was measured here, in no verdict."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retable.cards import PaperCard
from retable.currency import Currency
from retable.records import RunRecord
from retable.report.explorations import Side, side_of

PAGE = "others.html"


@dataclass(frozen=True)
class Line:
    """A cell that somebody else measured, and the same cell here."""

    sender: str
    paper: PaperCard
    metric: str
    unit: str
    theirs: Side
    ours: Side
    machine: str

    @property
    def difference(self) -> float | None:
        if self.theirs.mean is None or self.ours.mean is None:
            return None
        return self.theirs.mean - self.ours.mean


def lines(
    sent: Mapping[str, Sequence[RunRecord]],
    papers: Mapping[str, PaperCard],
    records: Sequence[RunRecord],
    currency: Currency,
) -> list[Line]:
    """A line a sender and cell, of papers and recipes that a card has."""
    own: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        own[record.identity].append(record)
    found = []
    for sender, records_of in sent.items():
        by_cell: dict[str, list[RunRecord]] = defaultdict(list)
        for record in records_of:
            by_cell[record.identity].append(record)
        for identity, group in by_cell.items():
            cell = group[0].cell
            for recipe in papers[cell.paper].recipes if cell.paper in papers else ():
                if recipe.name == cell.recipe:
                    theirs = side_of(cell, group, recipe.metric, currency)
                    ours = side_of(cell, own[identity], recipe.metric, currency)
                    machine = ", ".join(sorted({record.environment.get("device", "not recorded") for record in group}))
                    found.append(Line(sender, papers[cell.paper], recipe.metric, recipe.unit, theirs, ours, machine))
    return sorted(found, key=lambda line: (line.sender, line.paper.id, line.theirs.cell.name))
