"""`verdicts.json`: what the pages say, for programs. Its schema is `workflows/schemas/verdicts.schema.json`."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from retable import statements
from retable.cards import Model, Reach, Scalar, Scale
from retable.orders import PairedComparison, Verdict
from retable.report import words
from retable.rows import Row
from retable.significance import ALPHA, p_differ, p_equal
from retable.statements import StatementVerdict
from retable.verdicts import Assessment, ValueVerdict


class RowName(Model):
    """A row: a variant at one point of a recipe's grid at a scale, and the cells that it rests on."""

    recipe: str
    scale: Scale
    dataset: str
    variant: str
    axes: dict[str, Scalar]
    cells: list[str] = Field(description="identities, of all candidates of a tuned row")
    devices: list[str] = Field(description="kinds of device with instruction sets that its runs had")


class Part(Model):
    """The seeds of a mixture that are alike."""

    kind: str = Field(description="`constant answer`, `collapsed`, or empty")
    values: list[float]


class NumberLook(Model):
    """The tests of a number at one look, unadjusted."""

    seeds: int
    p_reproduced: float
    p_differs: float


class StatementLook(Model):
    """The tests of a statement at one look, unadjusted."""

    seeds: int
    p_for: float | None = None
    p_against: float | None = None


INTERVAL = "95 % interval of the difference, of the last look, not adjusted"
LOOK_TWO = "seeds in all of the second look that would decide it; absent where none would, or where both are taken"
HOURS = "hours that these seeds take, of processor cores and of GPUs, on the devices of the records"
GPU_HOURS = "how many of the hours are a GPU's"


class NumberEntry(Model):
    """One number of the paper against a row, or without one."""

    claim: str = Field(description="id in claims.csv")
    table: str
    state: str
    claimed: float
    metric: str | None = Field(default=None, description="in the records")
    row: RowName | None = None
    n: int
    mean: float | None = Field(default=None, description="absent for a mixture")
    std: float | None = None
    difference: float | None = Field(default=None, description="measured minus claimed")
    low: float | None = Field(default=None, description=INTERVAL)
    high: float | None = Field(default=None, description=INTERVAL)
    parts: list[Part] = Field(default=[], description="of a mixture")
    margin: float | None = None
    looks: list[NumberLook] = Field(default=[], description="one or two; none where no test was made")
    p_reproduced: float | None = Field(default=None, description="two one-sided t-tests, over the looks, unadjusted")
    p_differs: float | None = Field(
        default=None, description="over the looks, adjusted over the table (Benjamini and Hochberg)"
    )
    tests: int = Field(description="tested numbers of the table")
    others: int = Field(description="further rows of the table at this place")
    passing: int = Field(description="those of them whose mean is within the margin of the claim")
    look_two: int | None = Field(default=None, description=LOOK_TWO)
    hours: float | None = Field(default=None, description=HOURS)
    gpu_hours: float | None = Field(default=None, description=GPU_HOURS)
    note: str


class StatementEntry(Model):
    """An ordering, equivalence, trend or state at one place."""

    kind: Literal["ordering", "equivalence", "trend", "state"]
    id: str = Field(description="`<recipe>/<id>`")
    text: str
    state: str
    metric: str
    rows: list[RowName]
    n: int
    difference: float | None = Field(default=None, description="of a trend, the mean slope")
    low: float | None = Field(default=None, description=INTERVAL)
    high: float | None = Field(default=None, description=INTERVAL)
    test: str
    looks: list[StatementLook] = Field(default=[], description="one or two; none where no test was made")
    p_for: float | None = Field(default=None, description="of the statement, over the looks, unadjusted")
    p_against: float | None = Field(default=None, description="of its opposite, over the looks, unadjusted")
    p: float | None = Field(default=None, description="adjusted over the family, both directions together (Holm)")
    tests: int = Field(description="size of the family")
    look_two: int | None = Field(default=None, description=LOOK_TWO)
    hours: float | None = Field(default=None, description=HOURS)
    gpu_hours: float | None = Field(default=None, description=GPU_HOURS)
    note: str


class HeadlinePart(Model):
    """What a headline statement rests on, at one place."""

    name: str = Field(description="`<recipe>/<id>`, or a claim's id")
    finding: Literal["supported", "contradicted", "undecided", "open"]
    state: str = Field(description="in its own family of tests")
    dataset: str | None = None
    axes: dict[str, Scalar] = {}
    looks: list[int] = Field(default=[], description="seeds of each look")
    p_for: float | None = Field(default=None, description="over the looks, unadjusted")
    p_against: float | None = Field(default=None, description="over the looks, unadjusted")
    p: float | None = Field(default=None, description="adjusted over the statement's parts (Holm)")
    note: str


class HeadlineEntry(Model):
    """A sentence of the paper's abstract at a scale."""

    id: str
    text: str
    refuted_by: str
    scope: str
    scale: Scale
    state: str
    parts: list[HeadlinePart]
    look_two: int | None = Field(default=None, description=f"of the undecided parts: {LOOK_TWO}")
    hours: float | None = Field(default=None, description=HOURS)
    gpu_hours: float | None = Field(default=None, description=GPU_HOURS)
    note: str


class ComparisonEntry(Model):
    """A variant against a reference over the seeds of some data sets."""

    recipe: str
    scale: Scale
    variant: str
    reference: str
    state: str
    datasets: list[str]
    pairs: int
    mean: float | None = None
    p: float | None = Field(default=None, description="exact signed rank, over the looks, adjusted as statements are")
    tests: int
    note: str


class PaperEntry(Model):
    """The verdicts on one paper."""

    headlines: list[HeadlineEntry]
    numbers: list[NumberEntry]
    statements: list[StatementEntry]
    comparisons: list[ComparisonEntry]
    counts: dict[str, int] = Field(description="claims by state, at the largest scale that asks for each")
    by_reach: dict[Reach, dict[str, int]] = Field(description="claims by what answering them takes, and by state")
    tested: int = Field(description="claims that were tested")
    expected_false_differs: float = Field(description="upper bound")
    expected_false_reproduced: float = Field(description="upper bound")


class VerdictsFile(Model):
    """All verdicts; `docs/statistics.md` gives the rules."""

    schema_version: Literal[1] = 1
    level: float = Field(description="of every test")
    papers: dict[str, PaperEntry]


def document(papers: Mapping[str, PaperEntry]) -> VerdictsFile:
    """The verdicts of all papers."""
    return VerdictsFile(level=ALPHA, papers=dict(sorted(papers.items())))


def paper_entry(assessment: Assessment) -> PaperEntry:
    """The verdicts on one paper."""
    counts = {state: count for state, count in assessment.coverage().items() if count}
    return PaperEntry(
        headlines=[_headline(verdict) for verdict in assessment.statements],
        numbers=[_number(verdict) for verdict in assessment.values],
        statements=[_statement(verdict, text) for verdict, text in words.statements(assessment)],
        comparisons=[_comparison(compared) for compared in assessment.comparisons],
        counts=counts,
        by_reach=assessment.by_reach(),
        tested=assessment.tested(),
        expected_false_differs=ALPHA * counts.get("differs", 0),
        expected_false_reproduced=ALPHA * assessment.tested(),
    )


def _row(row: Row) -> RowName:
    return RowName(
        recipe=row.recipe.name,
        scale=row.scale,
        dataset=row.dataset,
        variant=row.variant,
        axes=row.axes,
        cells=[cell.identity for cell in row.cells],
        devices=row.devices,
    )


def _number(verdict: ValueVerdict) -> NumberEntry:
    metric, mixed = verdict.answer.measured if verdict.answer else None, verdict.state == "mixture"
    parts = verdict.row.parts(metric) if mixed and verdict.row and metric else []
    return NumberEntry(
        claim=verdict.claim.id,
        table=verdict.claim.table,
        state=verdict.state,
        claimed=verdict.claim.mean,
        metric=metric,
        row=_row(verdict.row) if verdict.row else None,
        n=verdict.n,
        mean=None if mixed else verdict.mean,
        std=None if mixed else verdict.std,
        difference=verdict.difference,
        low=verdict.difference_interval[0] if verdict.difference_interval else None,
        high=verdict.difference_interval[1] if verdict.difference_interval else None,
        parts=[Part(kind=kind, values=values) for kind, values in parts],
        margin=verdict.margin,
        looks=[
            NumberLook(seeds=gap.n, p_reproduced=p_equal(gap, verdict.margin or 0.0), p_differs=p_differ(gap))
            for gap in verdict.gaps
        ],
        p_reproduced=verdict.p_equal,
        p_differs=verdict.p_differ,
        tests=verdict.tests,
        others=verdict.others,
        passing=verdict.passing,
        look_two=verdict.look_two,
        hours=verdict.hours.total if verdict.hours else None,
        gpu_hours=verdict.hours.gpu if verdict.hours else None,
        note=verdict.note,
    )


def _statement(verdict: Verdict, text: str) -> StatementEntry:
    recipe, asked = verdict.first.recipe, verdict.asked
    return StatementEntry(
        kind=verdict.kind,
        id=f"{recipe.name}/{asked.id}",
        text=text,
        state=verdict.state,
        metric=asked.metric or recipe.metric,
        rows=[_row(row) for row in verdict.rows],
        n=verdict.n,
        difference=verdict.difference,
        low=verdict.interval[0] if verdict.interval else None,
        high=verdict.interval[1] if verdict.interval else None,
        test=verdict.test,
        looks=[
            StatementLook(seeds=seeds, p_for=p_for, p_against=p_against)
            for seeds, (p_for, p_against) in zip(verdict.looks, verdict.raw, strict=True)
            if p_for is not None
        ],
        p_for=verdict.p_for,
        p_against=verdict.p_against,
        p=verdict.p,
        tests=verdict.tests,
        look_two=verdict.look_two,
        hours=verdict.hours.total if verdict.hours else None,
        gpu_hours=verdict.hours.gpu if verdict.hours else None,
        note=verdict.note,
    )


def _headline(verdict: StatementVerdict) -> HeadlineEntry:
    stated = verdict.statement
    return HeadlineEntry(
        id=stated.id,
        text=stated.text,
        refuted_by=stated.refuted_by,
        scope=stated.scope,
        scale=verdict.scale,
        state=verdict.state,
        parts=[_headline_part(part) for part in verdict.parts],
        look_two=verdict.look_two,
        hours=verdict.hours.total if verdict.hours else None,
        gpu_hours=verdict.hours.gpu if verdict.hours else None,
        note=verdict.note,
    )


def _headline_part(part: statements.Part) -> HeadlinePart:
    return HeadlinePart(
        name=part.name,
        finding=part.finding,
        state=part.state,
        dataset=part.rows[0].dataset if part.rows else None,
        axes=part.axes,
        looks=list(part.looks),
        p_for=part.p_for,
        p_against=part.p_against,
        p=part.p,
        note=part.note,
    )


def _comparison(compared: PairedComparison) -> ComparisonEntry:
    return ComparisonEntry(
        recipe=compared.recipe.name,
        scale=compared.scale,
        variant=compared.variant,
        reference=compared.reference,
        state=compared.state,
        datasets=list(compared.datasets),
        pairs=len(compared.differences),
        mean=compared.mean,
        p=compared.p,
        tests=compared.tests,
        note=compared.note,
    )
