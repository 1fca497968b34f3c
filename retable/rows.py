"""Records become rows: a variant at one point of a recipe's grid, its candidates judged, its state named."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from retable.cards import SCALES, PaperCard, Recipe, Scalar, Scale, Selection
from retable.currency import Currency
from retable.plan import Cell
from retable.records import RunRecord


@dataclass(frozen=True)
class Row:
    """A variant at one point of a recipe's grid at one scale.

    `cells` are the candidates of a tuned variant (one cell otherwise), `chosen` the one that speaks for the
    row, `records` its finished runs by seed. `state` is `measured` or the reason why there is no result.
    """

    recipe: Recipe
    scale: Scale
    dataset: str
    variant: str
    axes: dict[str, Scalar]
    cells: tuple[Cell, ...]
    state: str
    note: str = ""
    chosen: Cell | None = None
    records: tuple[RunRecord, ...] = ()

    @property
    def label(self) -> str:
        return self.recipe.variants[self.variant].label

    @property
    def cell(self) -> Cell:
        """The cell to show for the row: the chosen candidate, or the first of those still open."""
        return self.chosen or self.cells[0]

    @property
    def rank(self) -> int:
        """Larger scales rank higher."""
        return SCALES.index(self.scale)

    def values(self, metric: str) -> dict[int, float]:
        """The metric by seed; empty if the row has no result or its records lack the metric."""
        return {record.seed: record.metrics[metric] for record in self.records if metric in record.metrics}

    def part(self, name: str) -> Scalar | None:
        """What a part of a claim's id is: `dataset`, `variant`, or a setting if all candidates share it."""
        if name in ("dataset", "variant"):
            return self.dataset if name == "dataset" else self.variant
        found = {str(cell.settings.get(name)): cell.settings.get(name) for cell in self.cells}
        return next(iter(found.values())) if len(found) == 1 else None


def group_rows(
    paper: PaperCard, cells: Iterable[Cell], by_cell: Mapping[str, list[RunRecord]], currency: Currency
) -> list[Row]:
    """Rows of a paper's planned cells, in the plan's order; `by_cell` holds records by cell identity."""
    groups: dict[tuple, list[Cell]] = defaultdict(list)
    for cell in cells:
        tuned = paper.recipe(cell.recipe).variants[cell.variant].axes
        fixed = tuple((key, value) for key, value in cell.axes.items() if key not in tuned)
        groups[cell.recipe, cell.scale, cell.dataset, cell.variant, fixed].append(cell)
    return [
        _row(paper.recipe(recipe), dict(fixed), group, by_cell, currency)
        for (recipe, _, _, _, fixed), group in groups.items()
    ]


def _row(recipe: Recipe, axes: dict, cells: list[Cell], by_cell: Mapping, currency: Currency) -> Row:
    first = cells[0]
    row = Row(recipe, first.scale, first.dataset, first.variant, axes, tuple(cells), "not run")
    found = [cell_state(cell, by_cell.get(cell.identity, []), currency) for cell in cells]
    states = [state for state, _, _ in found]
    for state in ("failed", "stale"):
        if state in states:
            return replace(row, state=state, note=found[states.index(state)][1])
    if set(states) == {"diverged"}:
        return replace(row, state="diverged", note=found[0][1])
    if "not run" in states:
        ready = len(cells) - states.count("not run")
        return replace(row, state="incomplete", note=f"{ready} of {len(cells)} candidates") if ready else row
    best, note = _choose(recipe.variants[first.variant].select, cells, [runs for _, _, runs in found])
    if best is None:
        return replace(row, state="incomplete", note=note)
    runs, planned = found[best][2], len(cells[best].seeds)
    if len(runs) < planned:
        note = "; ".join(filter(None, [note, f"{len(runs)} of {planned} planned seeds"]))
    return replace(row, state="measured", note=note, chosen=cells[best], records=tuple(runs))


def cell_state(cell: Cell, records: Iterable[RunRecord], currency: Currency) -> tuple[str, str, list[RunRecord]]:
    """State (`ok`, `failed`, `diverged`, `stale`, `not run`), reason and usable runs of a cell.

    One bad seed is enough to have no result: the mean of the others would flatter. A seed that the plan does not list
    is no part of the result.
    """
    records = [record for record in records if record.seed in cell.seeds]
    fresh, reasons = [], []
    for record in sorted(records, key=lambda record: record.seed):
        reason = currency.reason(record)
        if reason:
            reasons.append(f"seed {record.seed}: {reason}")
        else:
            fresh.append(record)
    for state in ("failed", "diverged"):
        bad = [record for record in fresh if record.state == state]
        if bad:
            cause = f": {bad[0].error}" if bad[0].error else ""
            return state, f"{len(bad)} of {len(fresh)} seeds {state}{cause}", []
    if fresh:
        return "ok", "", fresh
    return ("stale", reasons[0], []) if reasons else ("not run", "", [])


def _choose(select: Selection | None, cells: list[Cell], runs: list[list[RunRecord]]) -> tuple[int | None, str]:
    """Index of the candidate with the best mean of its metric over the seeds that all have, and why it is."""
    if select is None:
        return 0, ""
    metric = select.metric
    alive = [index for index, records in enumerate(runs) if records]
    common = set.intersection(*({r.seed for r in runs[index] if metric in r.metrics} for index in alive))
    if not common:
        return None, f"the {len(cells)} candidates share no seed with a value of {metric}"
    means = {i: statistics.mean(r.metrics[metric] for r in runs[i] if r.seed in common) for i in alive}
    best = (max if select.mode == "max" else min)(means, key=means.__getitem__)
    if len(cells) == 1:
        return best, ""
    candidate = ", ".join(f"{k}={v}" for k, v in cells[best].axes.items() if len({c.axes[k] for c in cells}) > 1)
    lost = f", {len(cells) - len(alive)} diverged" if len(alive) < len(cells) else ""
    return best, f"{candidate}, best of {len(cells)} by {metric} over {len(common)} seeds{lost}"
