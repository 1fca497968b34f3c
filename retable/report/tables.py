"""Verdicts and rows become tables: the leaderboard's lines, the paper's own layout, CSV files."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from retable.cards import Claim, DatasetCard, Recipe, Scale
from retable.plan import Cell
from retable.records import RunRecord
from retable.report import words
from retable.rows import Row
from retable.significance import average, deviation
from retable.verdicts import Assessment, ValueVerdict

SCALES_DOWN: tuple[Scale, ...] = ("full", "reduced", "demo")


# The leaderboard


@dataclass(frozen=True)
class Line:
    """One line of the comparison table: a claim at a scale, or a result that answers no claim.

    `setting` holds only what tells the lines of a table apart.
    """

    table: str
    dataset: str
    method: str
    setting: str
    unit: str
    metric: str
    claim: Claim | None
    state: str
    note: str
    row: Row | None
    mean: float | None
    std: float | None
    n: int
    difference: float | None = None
    text: str = ""


def comparison(assessment: Assessment, datasets: Mapping[str, DatasetCard], scale: Scale) -> list[Line]:
    """Lines of a scale, measured ones first. Claims that no recipe answers stand with those of full scale."""
    lines, answered = [], set()
    brief = {table: [*across, *down] for table, (across, down) in _varying_by_table(assessment.values).items()}
    for verdict in assessment.values:
        if (verdict.row.scale if verdict.row else "full") == scale:
            lines.append(_claim_line(verdict, brief[verdict.claim.table]))
            if verdict.row:
                answered.add(id(verdict.row))
    for row in assessment.rows:
        if row.scale == scale and id(row) not in answered:
            lines.append(_row_line(row, datasets))
    return sorted(lines, key=lambda line: (line.mean is None, line.row is None))


def _claim_line(verdict: ValueVerdict, telling: list[str]) -> Line:
    claim, row = verdict.claim, verdict.row
    return Line(
        table=claim.table,
        dataset=claim.dataset,
        method=claim.method,
        setting=words.settings({key: claim.setting[key] for key in telling if key in claim.setting}),
        unit=claim.unit,
        metric=claim.metric,
        claim=claim,
        state=verdict.state,
        note=verdict.note,
        row=row,
        mean=verdict.mean,
        std=verdict.std,
        n=verdict.n,
        difference=verdict.difference,
        text=_shown(verdict),
    )


def _shown(verdict: ValueVerdict) -> str:
    """What was measured for a claim, in words; empty without a result."""
    if verdict.row is None or verdict.answer is None or verdict.mean is None:
        return ""
    return words.measured(verdict.row, verdict.answer.measured, verdict.claim.unit)


def _row_line(row: Row, datasets: Mapping[str, DatasetCard]) -> Line:
    values = list(row.values(row.recipe.metric).values())
    return Line(
        table=row.recipe.title,
        dataset=datasets[row.dataset].title,
        method=row.label,
        setting=words.settings(row.axes),
        unit=row.recipe.unit,
        metric=row.recipe.metric,
        claim=None,
        state=words.row_state(row),
        note=row.note,
        row=row,
        mean=average(values) if values else None,
        std=deviation(values),
        n=len(values),
        text=words.measured(row, row.recipe.metric, row.recipe.unit) if values else "",
    )


# The paper's own tables


@dataclass
class GridCell:
    """A number with what is known of it."""

    text: str
    state: str = ""
    note: str = ""
    cell: Cell | None = None
    n: int = 0


@dataclass
class Grid:
    """A table in the paper's layout: for each row label one line of the paper's numbers and one of ours."""

    caption: str
    head: str
    columns: list[str]
    scale: Scale | None
    rows: dict[str, dict[str, dict[str, GridCell]]] = field(default_factory=dict)

    def put(self, row: str, line: str, column: str, cell: GridCell) -> None:
        self.rows.setdefault(row, {}).setdefault(line, {})[column] = cell
        if column not in self.columns:
            self.columns.append(column)


OURS = "measured here"


def grids(verdicts: Sequence[ValueVerdict], third_party: Sequence[Claim] = ()) -> list[Grid]:
    """The claims of one table as the paper sets them, one block a scale.

    A numeric setting that varies within a method becomes the columns (depth, say); where there is none, the
    data sets do. The paper's numbers belong to full scale and never stand in a grid of another one.
    """
    scales = [scale for scale in SCALES_DOWN if any(v.row and v.row.scale == scale for v in verdicts)]
    blocks: list[Scale | None] = [*scales] if "full" in scales else [None, *scales]
    across, down = _varying([v.claim for v in verdicts])
    found: dict[tuple, Grid] = {}
    for scale in blocks:
        for verdict in verdicts:
            if scale is not None and (verdict.row.scale if verdict.row else "full") != scale:
                continue
            claim = verdict.claim
            key = (scale, claim.model, *((claim.dataset, claim.metric) if across else ()))
            if key not in found:
                found[key] = _empty_grid(claim, scale, across, down)
            _fill(found[key], verdict, third_party, across, down)
    return list(found.values())


def _empty_grid(claim: Claim, scale: Scale | None, across: list[str], down: list[str]) -> Grid:
    fixed = words.settings(claim.setting, leave_out=[*across, *down]) if across else ""
    where = (claim.dataset, f"{claim.metric} ({claim.unit})" if claim.unit else claim.metric) if across else ()
    caption = ", ".join(filter(None, [*where, claim.model, fixed]))
    return Grid(caption, ", ".join(across) or "data set", [], scale)


def _fill(grid: Grid, verdict: ValueVerdict, third_party: Sequence[Claim], across: list[str], down: list[str]) -> None:
    claim = verdict.claim
    label = ", ".join([claim.method, *(f"{key} = {claim.setting[key]}" for key in down if key in claim.setting)])
    column = ", ".join(claim.setting.get(key, "") for key in across) or f"{claim.dataset}: {claim.metric}"
    if grid.scale in (None, "full"):
        spread = words.with_spread(claim.mean, claim.std, claim.unit)
        line = words.EVIDENCE[claim.evidence]
        grid.put(label, line, column, GridCell(spread, note=claim.source))
    if verdict.row and grid.scale is not None:
        grid.put(
            label, OURS, column, GridCell(_shown(verdict), verdict.state, verdict.note, verdict.row.cell, verdict.n)
        )
    if grid.scale in (None, "full"):
        for other in third_party:
            same = (other.dataset, other.model, other.method, other.metric)
            if same == (claim.dataset, claim.model, claim.method, claim.metric) and all(
                same_setting(other.setting.get(key), claim.setting.get(key)) for key in [*across, *down]
            ):
                text = words.with_spread(other.mean, other.std, other.unit)
                grid.put(label, other.table, column, GridCell(text, note=other.source))


def same_setting(a: str | None, b: str | None) -> bool:
    """Whether two claims have a setting in common: as numbers where both are, else as text."""
    if a is None or b is None:
        return False
    try:
        return float(a) == float(b)
    except ValueError:
        return a.strip().lower() == b.strip().lower()


def _varying(claims: Sequence[Claim]) -> tuple[list[str], list[str]]:
    """Settings that tell apart claims of one method: numeric ones (columns), others (part of the label)."""
    values: dict[tuple, dict[str, set[str]]] = {}
    for claim in claims:
        group = values.setdefault((claim.dataset, claim.model, claim.method, claim.metric), {})
        for key, value in claim.setting.items():
            group.setdefault(key, set()).add(value)
    keys = dict.fromkeys(k for group in values.values() for k, found in group.items() if len(found) > 1)
    every = {key: {value for group in values.values() for value in group.get(key, ())} for key in keys}
    across = [key for key in keys if all(value.replace(".", "", 1).isdigit() for value in every[key])]
    return across, [key for key in keys if key not in across]


def _varying_by_table(verdicts: Sequence[ValueVerdict]) -> dict[str, tuple[list[str], list[str]]]:
    by_table: dict[str, list[Claim]] = {}
    for verdict in verdicts:
        by_table.setdefault(verdict.claim.table, []).append(verdict.claim)
    return {table: _varying(claims) for table, claims in by_table.items()}


# The paper's numbers one by one


@dataclass(frozen=True)
class Numbers:
    """The claims of one of the paper's tables: those with a verdict, those measured at another scale only, and those
    without a number here.
    """

    table: str
    judged: list[ValueVerdict]
    elsewhere: list[ValueVerdict]
    open: list[ValueVerdict]


def numbers(assessment: Assessment) -> list[Numbers]:
    """The paper's tables, those with most judged numbers first."""
    found = []
    judged_ids = {v.claim.id for v in assessment.values if _at_full(v) and v.mean is not None}
    for table in dict.fromkeys(v.claim.table for v in assessment.values):
        here = [v for v in assessment.values if v.claim.table == table]
        judged = [v for v in here if _at_full(v) and v.mean is not None]
        elsewhere = [v for v in here if not _at_full(v) and v.mean is not None]
        known = judged_ids | {v.claim.id for v in elsewhere}
        left = {v.claim.id: v for v in here if v.claim.id not in known}
        found.append(Numbers(table, judged, elsewhere, list(left.values())))
    return sorted(found, key=lambda each: -len(each.judged))


def _at_full(verdict: ValueVerdict) -> bool:
    return verdict.row is not None and verdict.row.scale == "full"


def setting_of(verdicts: Sequence[ValueVerdict]) -> dict[str, str]:
    """By claim id what tells the claims of a table apart beyond data set and method; empty where nothing does."""
    across, down = _varying([v.claim for v in verdicts])
    told = {
        v.claim.id: words.settings({key: v.claim.setting[key] for key in [*across, *down] if key in v.claim.setting})
        for v in verdicts
    }
    return told if any(told.values()) else {}


# Runs of a cell

Run = tuple[RunRecord, str | None, str]


@dataclass(frozen=True)
class Runs:
    """Runs that have state, reason and code in common."""

    seeds: str
    first: RunRecord
    reason: str | None
    measured_at: str
    count: int
    wall: float
    memory: int


def grouped(runs: Sequence[Run]) -> list[Runs]:
    """Many runs by what they have in common."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        record, reason, measured_at = run
        groups.setdefault((record.state, record.error, reason, measured_at), []).append(run)
    return [
        Runs(
            ranges([record.seed for record, _, _ in group]),
            *group[0],
            len(group),
            average(record.cost.wall_s for record, _, _ in group),
            max(record.cost.peak_memory_bytes for record, _, _ in group),
        )
        for group in groups.values()
    ]


def ranges(seeds: Sequence[int]) -> str:
    """`0–4, 7`."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]}–{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


@dataclass(frozen=True)
class Former:
    """What a number was before, and why it counts no more."""

    why: str
    identity: str
    seeds: str
    values: list[float]
    commit: str
    ended: str


def former(found: Sequence[tuple[RunRecord, str]], metric: str) -> list[Former]:
    """Runs of before by why they count no more, the newest first."""
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record, why in found:
        groups.setdefault((why, record.identity, record.commit or ""), []).append(record)
    listed = [
        Former(
            why,
            identity,
            ranges([record.seed for record in group]),
            [record.metrics[metric] for record in group if metric in record.metrics],
            commit,
            max(record.ended for record in group),
        )
        for (why, identity, commit), group in groups.items()
    ]
    return sorted(listed, key=lambda each: each.ended, reverse=True)


# All rows of a recipe


def axis_names(rows: Sequence[Row]) -> list[str]:
    """Grid axes in the order in which rows have them."""
    return list(dict.fromkeys(name for row in rows for name in row.axes))


def metric_names(recipe: Recipe, rows: Sequence[Row]) -> list[str]:
    """The primary metric, then all others that some record holds."""
    found = sorted({name for row in rows for record in row.records for name in record.metrics})
    return [recipe.metric, *(name for name in found if name != recipe.metric)]


def csv_of_recipes(assessment: Assessment, datasets: Mapping[str, DatasetCard]) -> dict[str, str]:
    """By file name a CSV for each recipe and scale: every row's metrics at full precision, its claim and verdict."""
    found = {}
    for recipe in assessment.paper.recipes:
        for scale in SCALES_DOWN:
            rows = [r for r in assessment.rows if (r.recipe.name, r.scale) == (recipe.name, scale)]
            if rows:
                name = f"{assessment.paper.id}_{recipe.name}_{scale}.csv"
                found[name] = _csv(assessment, recipe, rows, datasets)
    return found


def _csv(assessment: Assessment, recipe: Recipe, rows: list[Row], datasets: Mapping[str, DatasetCard]) -> str:
    axes, metrics = axis_names(rows), metric_names(recipe, rows)
    verdicts = {id(v.row): v for v in assessment.values if v.row}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["dataset", "variant", *axes, "chosen", "metric", "unit", "mean", "std", "n", "state", "condition", "claimed",
         "claimed_std", "difference", "verdict", "p_equal", "p_differ", "cell", "note"]
    )  # fmt: skip
    for row in rows:
        verdict = verdicts.get(id(row))
        chosen = {k: v for k, v in row.cell.axes.items() if k not in row.axes} if row.chosen else {}
        place = [
            datasets[row.dataset].title,
            row.label,
            *(row.axes.get(a) for a in axes),
            words.settings(chosen),
        ]
        for metric in metrics:
            values = list(row.values(metric).values())
            unit = recipe.unit if metric == recipe.metric else ""
            condition = row.condition(metric)
            means = [None, None] if condition == "mixture" or not values else [average(values), deviation(values)]
            numbers = [*means, len(values), row.state, condition]
            judged: list = [None] * 6
            if verdict and verdict.answer and verdict.answer.measured == metric:
                claim = verdict.claim
                judged = [
                    claim.mean,
                    claim.std,
                    verdict.difference,
                    verdict.state,
                    verdict.p_equal,
                    verdict.p_differ,
                ]
            writer.writerow([*place, metric, unit, *numbers, *judged, row.cell.identity, row.note])
    return text.getvalue()


class MetricLine(NamedTuple):
    """A metric of a cell: mean with deviation and interval in words, and the value of each run, None where it lacks."""

    name: str
    unit: str
    mean: str
    interval: str
    each: list[float | None]


def metric_lines(recipe: Recipe, records: Sequence[RunRecord]) -> list[MetricLine]:
    """The metrics of some runs, the primary one first; none where no run has one."""
    names = dict.fromkeys([recipe.metric, *sorted({name for record in records for name in record.metrics})])
    lines = []
    for name in names if records else ():
        each = [record.metrics.get(name) for record in records]
        there = [value for value in each if value is not None]
        unit = recipe.unit if name == recipe.metric else ""
        lines.append(MetricLine(name, unit, words.mean_spread(there, unit), words.around(there, unit), each))
    return lines
