"""The page of what-if runs: settings that no card lists, each beside the cell of the paper that it varies."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retable.cards import PaperCard, Scalar, Scale
from retable.currency import Currency
from retable.plan import Cell
from retable.records import RunRecord
from retable.significance import deviation
from retable.whatif import varied

PAGE = "explorations.html"


@dataclass(frozen=True)
class Side:
    """Current, finished values of a cell; `state` says why there are none."""

    cell: Cell
    values: list[float]
    state: str

    @property
    def mean(self) -> float | None:
        return statistics.mean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        return deviation(self.values)


@dataclass(frozen=True)
class Line:
    """An exploration, what it changes, and the paper's cell that it is nearest to, if a card still plans one."""

    paper: PaperCard
    metric: str
    unit: str
    own: Side
    changes: Mapping[str, tuple[Scalar | None, Scalar]]
    base: Side | None

    @property
    def difference(self) -> float | None:
        if self.base is None or self.own.mean is None or self.base.mean is None:
            return None
        return self.own.mean - self.base.mean


def lines(
    explored: Sequence[RunRecord],
    papers: Mapping[str, PaperCard],
    cells: Mapping[Scale, Sequence[Cell]],
    records: Sequence[RunRecord],
    currency: Currency,
) -> list[Line]:
    """A line a cell that was explored, of papers and recipes that a card has."""
    by_cell: dict[str, list[RunRecord]] = defaultdict(list)
    for record in (*explored, *records):
        by_cell[record.identity].append(record)
    found = []
    for cell in {record.identity: record.cell for record in explored}.values():
        recipes = papers[cell.paper].recipes if cell.paper in papers else ()
        for recipe in recipes:
            if recipe.name == cell.recipe:
                base, changes = varied(cell, cells.get(cell.scale, ()))
                own = side_of(cell, by_cell[cell.identity], recipe.metric, currency)
                beside = side_of(base, by_cell[base.identity], recipe.metric, currency) if base else None
                found.append(Line(papers[cell.paper], recipe.metric, recipe.unit, own, changes, beside))
    return sorted(found, key=lambda line: (line.paper.id, line.own.cell.recipe, line.own.cell.name))


def side_of(cell: Cell, records: Sequence[RunRecord], metric: str, currency: Currency) -> Side:
    """What the current, finished records of a cell give, and what the others are."""
    states = [
        "stale" if currency.reason(record) else record.state if metric in record.metrics or record.state != "ok" else
        f"no {metric}"
        for record in records
    ]  # fmt: skip
    values = [record.metrics[metric] for record, state in zip(records, states, strict=True) if state == "ok"]
    bad = [state for state in states if state != "ok"]
    return Side(cell, values, ", ".join(dict.fromkeys(bad)) if bad else "" if values else "not run")
