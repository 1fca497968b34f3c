"""Claims and rows become verdicts. Pure functions: nothing is read, run or remembered here.

This module judges the paper's numbers (at full scale only) and puts the assessment of a paper together;
`retable.orders` judges rows against each other. `docs/statistics.md` states the rules.
"""

import difflib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from retable.cards import REACHES, CardError, Claim, ClaimLink, PaperCard, Reach, unknown
from retable.currency import Currency
from retable.looks import Looks
from retable.orders import (
    BOTH_LOOKS,
    EquivalenceVerdict,
    OrderingVerdict,
    PairedComparison,
    TrendVerdict,
    compare,
    design,
    join,
    judge_equivalences,
    judge_orderings,
    judge_trends,
)
from retable.plan import Cell
from retable.records import RunRecord
from retable.rows import DeviceHours, Row, group_rows, hours_to, most_seeds, possible
from retable.significance import (
    ALPHA,
    MeanDifference,
    average,
    benjamini_hochberg,
    deviation,
    gap_to_claim,
    interval,
    interval_of_mean,
    look_two,
    p_differ,
    p_equal,
    p_of_two,
    printed_digit,
    undecidable,
)
from retable.statements import Part, StatementVerdict, judge_statements
from retable.states import StateVerdict, judge_states

VALUE_STATES = ("reproduced", "within the margin, not distinctive", "differs", "inconclusive", "cannot be decided",
                "constant answer", "collapsed", "mixture", "not known", "used to set up", "not comparable",
                "not measured at this scale", "incomplete", "diverged", "failed", "stale", "not run",
                "not covered")  # fmt: skip
THIRD_PARTY = "third-party"


@dataclass(frozen=True)
class ValueVerdict:
    """One number of the paper against a row.

    `p_equal` is over the `looks` and unadjusted, `p_differ` moreover Benjamini and Hochberg's over the `tests` numbers
    of the table, `plain` the state without that adjustment; `gaps` are the differences look by look. Of the `others`,
    the other rows of the table at this place, `passing` have a mean within the margin of the claim. An inconclusive one
    with one look says how many seeds in all `look_two` needs and what `hours` they take; None where that is not known.
    """

    claim: Claim
    state: str
    row: Row | None = None
    answer: ClaimLink | None = None
    n: int = 0
    mean: float | None = None
    std: float | None = None
    margin: float | None = None
    p_equal: float | None = None
    p_differ: float | None = None
    plain: str = ""
    tests: int = 0
    others: int = 0
    passing: int = 0
    note: str = ""
    looks: tuple[int, ...] = ()
    gaps: tuple[MeanDifference, ...] = field(default=(), repr=False)
    look_two: int | None = None
    hours: DeviceHours | None = None

    @property
    def p_differ_raw(self) -> float:
        """The p-value of a difference over the looks, without the adjustment for the table."""
        return p_of_two(*(p_differ(gap) for gap in self.gaps))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of what was measured, of the last look; None without two values, or for a mixture."""
        if self.row is None or self.answer is None or self.state == "mixture":
            return None
        return interval_of_mean(list(self.row.values(self.answer.measured).values()))

    @property
    def difference_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `difference`, with the error of the paper's number; None where no test was made."""
        return interval(self.gaps[-1]) if self.gaps else None

    @property
    def difference(self) -> float | None:
        """Measured minus claimed; None without a mean, which a mixture does not have."""
        return None if self.mean is None or self.state == "mixture" else self.mean - self.claim.mean


@dataclass(frozen=True)
class Assessment:
    """Everything that can be said about one paper.

    `third_party` are other groups' numbers, shown beside and never judged; `orphans` are records of cells
    that no recipe plans any more.
    """

    paper: PaperCard
    rows: list[Row]
    values: list[ValueVerdict]
    orderings: list[OrderingVerdict]
    equivalences: list[EquivalenceVerdict]
    trends: list[TrendVerdict]
    states: list[StateVerdict]
    statements: list[StatementVerdict]
    comparisons: list[PairedComparison]
    third_party: list[Claim]
    orphans: list[RunRecord]

    def by_claim(self) -> list[ValueVerdict]:
        """One verdict for each claim: the one at the largest scale that asks for it."""
        found: dict[str, ValueVerdict] = {}
        for verdict in self.values:
            known = found.get(verdict.claim.id)
            if known is None or (known.row and verdict.row and verdict.row.rank > known.row.rank):
                found[verdict.claim.id] = verdict
        return list(found.values())

    def coverage(self) -> dict[str, int]:
        """Number of the paper's claims by state."""
        states = [verdict.state for verdict in self.by_claim()]
        return {state: states.count(state) for state in VALUE_STATES}

    def by_reach(self) -> dict[Reach, dict[str, int]]:
        """Number of the paper's claims by what answering them takes, and by state; without empty ones."""
        found: dict[Reach, dict[str, int]] = {}
        for reach in REACHES:
            states = [verdict.state for verdict in self.by_claim() if verdict.claim.reach == reach]
            if states:
                found[reach] = {state: states.count(state) for state in VALUE_STATES if state in states}
        return found

    def tested(self) -> int:
        """Number of claims that were tested for being reproduced."""
        return sum(1 for verdict in self.by_claim() if verdict.p_equal is not None)


def assess(
    paper: PaperCard,
    claims: Sequence[Claim],
    cells: Iterable[Cell],
    records: Iterable[RunRecord],
    currency: Currency,
    looks: Looks,
) -> Assessment:
    """Judge one paper. `cells` are the planned cells of all scales; those of other papers are left out. `looks` are
    the stored ones.

    Raises CardError when two rows of a scale answer the same claim: a claim has one answer.
    """
    planned = [cell for cell in cells if cell.paper == paper.id]
    by_cell: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.paper == paper.id:
            by_cell[record.identity].append(record)
    rows = group_rows(paper, planned, by_cell, currency, looks)
    own = [claim for claim in claims if not is_third_party(paper, claim)]
    values = _adjust_values(_judge_claims(paper, own, rows))
    orderings, equivalences = judge_orderings(paper, rows), judge_equivalences(paper, rows)
    trends, states = judge_trends(paper, rows), judge_states(paper, rows)
    numbers = {value.claim.id: _part(value) for value in values if value.row is None or value.row.scale == "full"}
    lost = sorted(by_cell.keys() - {cell.identity for cell in planned})
    return Assessment(
        paper=paper,
        rows=rows,
        values=values,
        orderings=orderings,
        equivalences=equivalences,
        trends=trends,
        states=states,
        statements=judge_statements(paper, [*orderings, *equivalences, *trends, *states], numbers),
        comparisons=compare(paper, rows),
        third_party=[claim for claim in claims if is_third_party(paper, claim)],
        orphans=[record for identity in lost for record in sorted(by_cell[identity], key=lambda r: r.seed)],
    )


def _part(value: ValueVerdict) -> Part:
    """A number as a part of statements: for it speaks that it is reproduced, against it that it differs."""
    rows = (value.row,) if value.row else ()
    part = Part(value.claim.id, value.state, note=value.note, rows=rows, claim=value.claim, looks=value.looks)
    if value.p_equal is None or value.state == "within the margin, not distinctive":
        return part
    against = None if value.p_equal <= ALPHA else value.p_differ_raw
    gap = replace(value.gaps[-1], difference=abs(value.gaps[-1].difference) - (value.margin or 0.0))
    return replace(part, p_for=value.p_equal, p_against=against, gap=gap)


def is_third_party(paper: PaperCard, claim: Claim) -> bool:
    """Whether another group measured the number."""
    table = paper.tables.get(claim.table)
    return claim.table.startswith(THIRD_PARTY) or (table is not None and table.third_party)


def check_claims(paper: PaperCard, claims: Sequence[Claim]) -> None:
    """Raises CardError when a claim's table is none of the card's, when an answer names no claim that is judged, and
    when its margin is too wide for one.
    """
    for claim in claims:
        if claim.table not in paper.tables:
            raise CardError(
                f"methods/{paper.id}/claims.csv: {claim.id!r} is of the table {claim.table!r}, not in `tables` of the "
                "card; add it there or correct it"
            )
    judged = {claim.id: claim for claim in claims if not is_third_party(paper, claim)}
    for statement in paper.statements:
        for name in statement.numbers:
            if name not in judged:
                near = unknown("number", name, difflib.get_close_matches(name, judged, 3) or list(judged)[:3])
                raise CardError(
                    f"methods/{paper.id}/card.yaml: the statement {statement.id!r} names an {near}, .. in claims.csv"
                )
    for recipe in paper.recipes:
        texts = recipe.texts()
        for answer in recipe.answers:
            where = f"methods/{paper.id}/card.yaml: recipe {recipe.name!r}: `claims: {answer.claims}`"
            cells = itertools.product(*(texts[part] for part in answer.parts))
            ids = [answer.claim_id(dict(zip(answer.parts, cell, strict=True))) for cell in cells]
            found = [judged[name] for name in ids if name in judged]
            if not found:
                raise CardError(
                    f"{where} gives the id of no claim of the paper in claims.csv; correct it or take the answer out"
                )
            least = min(found, key=lambda claim: claim.most_margin)
            if answer.margin > least.most_margin:
                raise CardError(
                    f"{where} has the margin {answer.margin:g}, more than 2 points of the scale of {least.id!r}; give "
                    f"at most {least.most_margin:g}"
                )


def _judge_claims(paper: PaperCard, claims: Sequence[Claim], rows: list[Row]) -> list[ValueVerdict]:
    answers: dict[str | None, list[tuple[Row, ClaimLink]]] = defaultdict(list)
    for row in rows:
        for answer in row.recipe.answers:
            answers[answer.claim_id({part: row.part(part) for part in answer.parts})].append((row, answer))
    verdicts = []
    for claim in claims:
        found = answers[claim.id]
        scales = [row.scale for row, _ in found]
        if len(set(scales)) < len(scales):
            names = sorted({f"{row.recipe.name}/{row.variant} {row.axes}" for row, _ in found})
            raise CardError(
                f"{paper.id}: the claim {claim.id!r} has two answers at one scale, {'; '.join(names)}; tell them "
                "apart in `claims`"
            )
        verdicts += [_judge_claim(claim, row, answer, rows) for row, answer in found] or [
            ValueVerdict(claim, "not covered")
        ]
    return verdicts


def _judge_claim(claim: Claim, row: Row, answer: ClaimLink, rows: list[Row]) -> ValueVerdict:
    verdict = ValueVerdict(claim, row.state, row, answer, note=row.note)
    values = list(row.values(answer.measured).values())
    if row.state != "measured":
        return replace(verdict, n=len(values), mean=average(values), std=deviation(values)) if values else verdict
    if not values:
        alike = [other for other in rows if (other.recipe.name, other.scale) == (row.recipe.name, row.scale)]
        state = "failed" if any(other.values(answer.measured) for other in alike) else "not measured at this scale"
        return replace(verdict, state=state, note=f"the records lack the metric {answer.measured}")
    verdict = replace(verdict, n=len(values), mean=average(values), std=deviation(values))
    if row.scale != "full":
        return replace(verdict, state="not comparable", note=join(row.note, f"measured at scale {row.scale}"))
    if claim.used_for:
        return replace(verdict, state="used to set up", note=join(row.note, f"it served to choose {claim.used_for}"))
    if claim.unreliable:
        return replace(verdict, state="not comparable", note=join(row.note, claim.unreliable))
    if condition := row.condition(answer.measured):
        return replace(verdict, state=condition, note=join(row.note, condition_note(row, answer.measured)))
    return _test_claim(replace(verdict, state="inconclusive", margin=answer.margin), rows)


def condition_note(row: Row, metric: str) -> str:
    """What the state of a row that takes no test of means rests on."""
    kinds = row.degenerate(metric)
    if row.condition(metric) == "not known":
        return "most seeds have exactly the same accuracy, and the records do not say whether the answer is constant"
    counts = [(kind, list(kinds.values()).count(kind)) for kind in ("constant answer", "collapsed")]
    return ", ".join(f"{kind} in {count} of {len(row.values(metric))} seeds" for kind, count in counts if count)


def _test_claim(verdict: ValueVerdict, rows: list[Row]) -> ValueVerdict:
    claim, row, answer = verdict.claim, verdict.row, verdict.answer
    assert row is not None
    assert answer is not None
    note = verdict.note
    if claim.std is not None and claim.std > answer.margin:
        over = f"over {claim.varied}" if claim.varied else "of an unstated kind"
        note = join(note, f"the paper's own deviation {over}, {claim.std:g}, is wider than the margin")
    others = [
        average(found)
        for other in rows
        if other is not row
        and other.state == "measured"
        and (other.recipe.name, other.scale, other.dataset) == place_of(row)
        if all(other.axes[key] == row.axes[key] for key in other.axes.keys() & row.axes.keys())
        if (found := list(other.values(answer.measured).values()))
    ]
    passing = sum(1 for mean in others if abs(mean - claim.mean) <= answer.margin)
    verdict = replace(verdict, note=note, others=len(others), passing=passing)
    if verdict.n == 1:
        return replace(verdict, plain="inconclusive", note=join(note, "one seed has no spread"))
    resolution = row.resolution(answer.measured) or printed_digit(claim.mean, claim.unit)
    gaps = [
        gap_to_claim(
            list(row.at(seeds).values(answer.measured).values()),
            claim.mean,
            claim.trained_std,
            claim.trained_runs,
            resolution,
        )
        for seeds in row.looks
    ]
    if gaps[-1] is None:
        return replace(verdict, plain="inconclusive", note=join(note, "two equal values have no spread to test with"))
    return replace(verdict, looks=row.looks, gaps=tuple(gap for gap in gaps if gap))


def place_of(row: Row) -> tuple[str, str, str]:
    """The table that a row stands in: recipe, scale and data set."""
    return row.recipe.name, row.scale, row.dataset


def _adjust_values(verdicts: list[ValueVerdict]) -> list[ValueVerdict]:
    families: dict[str, list[int]] = defaultdict(list)
    for index, verdict in enumerate(verdicts):
        if verdict.gaps:
            families[verdict.claim.table].append(index)
    verdicts = list(verdicts)
    for family in families.values():
        tested = [verdicts[index] for index in family]
        equal = [p_of_two(*(p_equal(gap, each.margin or 0.0) for gap in each.gaps)) for each in tested]
        differ = [each.p_differ_raw for each in tested]
        for index, p, raw, q in zip(family, equal, differ, benjamini_hochberg(differ), strict=True):
            verdict = replace(verdicts[index], p_equal=p, p_differ=q, plain=_value_state(p, raw), tests=len(family))
            verdicts[index] = _settle_value(verdict, _value_state(p, q))
    return verdicts


def _settle_value(verdict: ValueVerdict, state: str) -> ValueVerdict:
    note, difference, seeds, hours = verdict.note, verdict.difference or 0.0, None, None
    assert verdict.row is not None
    assert verdict.p_differ is not None
    if state == "reproduced":
        if verdict.p_differ <= ALPHA and difference:
            note = join(note, f"inside the margin, yet {abs(difference):.2g} {'higher' if difference > 0 else 'lower'}")
        note = join(note, f"{verdict.passing} of {verdict.others} further rows lie within the margin too")
        if 2 * verdict.passing > verdict.others:
            state = "within the margin, not distinctive"
    elif state == "inconclusive" and undecidable(verdict.gaps, verdict.margin or 0.0):
        state = "cannot be decided"
        note = join(note, "outside the margin, but the paper's own error is too large to call it different")
    elif state == "inconclusive":
        if len(verdict.looks) == 1:
            seeds = possible(look_two(verdict.gaps[-1], ALPHA / verdict.tests, verdict.margin), [verdict.row])
            hours = hours_to([verdict.row], seeds) if seeds else None
        note = join(note, design(seeds, hours, most_seeds([verdict.row])) if len(verdict.looks) == 1 else BOTH_LOOKS)
        if verdict.plain != state:
            note = join(note, f"{verdict.plain} before the adjustment for {verdict.tests} claims")
    return replace(verdict, state=state, note=note, look_two=seeds, hours=hours)


def _value_state(equal: float, differ: float) -> str:
    return "reproduced" if equal <= ALPHA else "differs" if differ <= ALPHA else "inconclusive"
