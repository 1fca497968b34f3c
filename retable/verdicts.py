"""Claims and rows become verdicts. Pure functions: nothing is read, run or remembered here.

Rows are judged against the paper's numbers (value claims, at full scale only) and against each other
(orderings and comparisons, at any scale). Holm's adjustment covers each table of value claims, and each recipe's
orderings and its comparisons at a scale.
"""

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from retable.cards import SCALES, Answer, CardError, Claim, Ordering, PaperCard, Recipe, Scale
from retable.currency import Currency
from retable.plan import Cell
from retable.records import RunRecord
from retable.rows import Row, group_rows
from retable.significance import (
    ALPHA,
    MOST_SEEDS,
    Gap,
    detectable,
    deviation,
    gap_of_order,
    gap_to_claim,
    holm,
    least_p_signed_rank,
    p_differ,
    p_equal,
    p_greater,
    p_signed_rank,
    seeds_needed,
    side,
)

VALUE_STATES = ("reproduced", "differs", "inconclusive", "not comparable", "incomplete", "diverged", "failed",
                "stale", "not run", "not covered")  # fmt: skip
ORDER_STATES = ("holds", "reversed", "inconclusive", "incomplete", "diverged", "failed", "stale", "not run")
THIRD_PARTY = "third-party"


@dataclass(frozen=True)
class ValueVerdict:
    """One number of the paper against a row.

    The p-values are Holm's; `plain` is the state that they would give unadjusted, `tests` the family's size.
    """

    claim: Claim
    state: str
    row: Row | None = None
    answer: Answer | None = None
    n: int = 0
    mean: float | None = None
    std: float | None = None
    margin: float | None = None
    p_equal: float | None = None
    p_differ: float | None = None
    plain: str = ""
    tests: int = 0
    note: str = ""
    gap: Gap | None = field(default=None, repr=False)

    @property
    def difference(self) -> float | None:
        return None if self.mean is None else self.mean - self.claim.mean


@dataclass(frozen=True)
class OrderingVerdict:
    """`better > worse` at a point of the grid. `difference` is positive where the means agree with it."""

    ordering: Ordering
    better: Row
    worse: Row
    state: str
    n: int = 0
    paired: bool = False
    difference: float | None = None
    p_holds: float | None = None
    p_reversed: float | None = None
    tests: int = 0
    note: str = ""
    gap: Gap | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Compared:
    """A variant against a reference at one scale, over all places (data sets, settings) where both are measured.

    `differences` are variant minus reference, by place and then by seed: the pairs of the signed-rank test, whose
    p-value is Holm's over the `tests` comparisons of the recipe at the scale. `datasets` are those of the pairs.
    """

    recipe: Recipe
    scale: Scale
    variant: str
    reference: str
    source: str
    differences: tuple[float, ...]
    datasets: tuple[str, ...]
    places: int
    measured: int
    p: float | None = None
    tests: int = 0
    note: str = ""

    @property
    def mean(self) -> float | None:
        return statistics.mean(self.differences) if self.differences else None

    @property
    def state(self) -> str:
        """`above` or `below` the reference where the test says so, else `inconclusive` or `not run`."""
        if self.p is None:
            return "not run"
        if self.p > ALPHA:
            return "inconclusive"
        return "above" if side(self.differences) > 0 else "below"

    @property
    def unequal(self) -> int:
        """Number of the pairs that the signed-rank test looks at."""
        return sum(1 for difference in self.differences if difference)

    @property
    def too_few(self) -> bool:
        """Whether its unequal pairs would decide nothing even if all lay on one side."""
        return self.unequal > 0 and least_p_signed_rank(self.unequal) > ALPHA


@dataclass(frozen=True)
class Assessment:
    """Everything that can be said about one paper.

    `third_party` are other papers' re-runs, shown beside and never judged; `orphans` are records of cells
    that no recipe plans any more.
    """

    paper: PaperCard
    rows: list[Row]
    values: list[ValueVerdict]
    orderings: list[OrderingVerdict]
    comparisons: list[Compared]
    third_party: list[Claim]
    orphans: list[RunRecord]

    def coverage(self) -> dict[str, int]:
        """Number of the paper's claims by state: the state at the largest scale that asks for the claim."""
        by_claim: dict[str, ValueVerdict] = {}
        for verdict in self.values:
            known = by_claim.get(verdict.claim.id)
            if known is None or (known.row and verdict.row and verdict.row.rank > known.row.rank):
                by_claim[verdict.claim.id] = verdict
        states = [verdict.state for verdict in by_claim.values()]
        return {state: states.count(state) for state in VALUE_STATES}


def assess(
    paper: PaperCard,
    claims: Sequence[Claim],
    cells: Iterable[Cell],
    records: Iterable[RunRecord],
    currency: Currency,
) -> Assessment:
    """Judge one paper. `cells` are the planned cells of all scales; those of other papers are left out.

    Raises CardError when two rows of a scale answer the same claim: a claim has one answer.
    """
    planned = [cell for cell in cells if cell.paper == paper.id]
    by_cell: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.paper == paper.id:
            by_cell[record.identity].append(record)
    rows = group_rows(paper, planned, by_cell, currency)
    own = [claim for claim in claims if not claim.table.startswith(THIRD_PARTY)]
    lost = sorted(by_cell.keys() - {cell.identity for cell in planned})
    return Assessment(
        paper=paper,
        rows=rows,
        values=_adjust_values(_judge_claims(paper, own, rows)),
        orderings=_adjust_orderings([v for recipe in paper.recipes for v in _judge_orderings(recipe, rows)]),
        comparisons=_adjust_comparisons([v for recipe in paper.recipes for v in _compare(recipe, rows)]),
        third_party=[claim for claim in claims if claim.table.startswith(THIRD_PARTY)],
        orphans=[record for identity in lost for record in sorted(by_cell[identity], key=lambda r: r.seed)],
    )


def check_claims(paper: PaperCard, claims: Sequence[Claim]) -> None:
    """Raises CardError when a claim's table is none of the card's, or an answer names no claim that is judged."""
    for claim in claims:
        if claim.table not in paper.tables:
            raise CardError(
                f"methods/{paper.id}/claims.csv: {claim.id!r} is of the table {claim.table!r}, not in `tables` of the "
                "card; add it there or correct it"
            )
    judged = {claim.id for claim in claims if not claim.table.startswith(THIRD_PARTY)}
    for recipe in paper.recipes:
        texts = recipe.texts()
        for answer in recipe.answers:
            cells = itertools.product(*(texts[part] for part in answer.parts))
            if judged.isdisjoint(answer.claim_id(dict(zip(answer.parts, cell, strict=True))) for cell in cells):
                raise CardError(
                    f"methods/{paper.id}/card.yaml: recipe {recipe.name!r}: `claims: {answer.claims}` gives the id of "
                    "no claim of the paper in claims.csv; correct it or take the answer out"
                )


# Value claims


def _judge_claims(paper: PaperCard, claims: Sequence[Claim], rows: list[Row]) -> list[ValueVerdict]:
    answers: dict[str | None, list[tuple[Row, Answer]]] = defaultdict(list)
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
        verdicts += [_judge_claim(claim, *pair) for pair in found] or [ValueVerdict(claim, "not covered")]
    return verdicts


def _judge_claim(claim: Claim, row: Row, answer: Answer) -> ValueVerdict:
    verdict = ValueVerdict(claim, row.state, row, answer, note=row.note)
    if row.state != "measured":
        return verdict
    values = list(row.values(answer.measured).values())
    if not values:
        return replace(verdict, state="failed", note=f"the records lack the metric {answer.measured}")
    verdict = replace(verdict, n=len(values), mean=statistics.mean(values), std=deviation(values))
    if row.scale != "full":
        return replace(verdict, state="not comparable", note=_join(row.note, f"measured at scale {row.scale}"))
    if claim.evidence == "memory":
        return replace(verdict, state="not comparable", note=_join(row.note, "the claim was never seen in a source"))
    verdict = replace(verdict, state="inconclusive", margin=max(answer.margin, claim.std or 0.0))
    if len(values) == 1:
        return replace(verdict, plain="inconclusive", note=_join(row.note, "one seed has no spread"))
    return replace(verdict, gap=gap_to_claim(values, claim.mean, claim.std, claim.runs))


def _adjust_values(verdicts: list[ValueVerdict]) -> list[ValueVerdict]:
    families: dict[str, list[int]] = defaultdict(list)
    for index, verdict in enumerate(verdicts):
        if verdict.gap:
            families[verdict.claim.table].append(index)
    verdicts = list(verdicts)
    for family in families.values():
        gaps = [(gap, verdicts[index].margin or 0.0) for index in family if (gap := verdicts[index].gap)]
        equal = [p_equal(gap, margin) for gap, margin in gaps]
        differ = [p_differ(gap) for gap, _ in gaps]
        plain = [_value_state(*pair) for pair in zip(equal, differ, strict=True)]
        for index, state, p, q in zip(family, plain, holm(equal), holm(differ), strict=True):
            verdict = replace(verdicts[index], p_equal=p, p_differ=q, plain=state, tests=len(family))
            verdicts[index] = _settle_value(verdict, _value_state(p, q))
    return verdicts


def _settle_value(verdict: ValueVerdict, state: str) -> ValueVerdict:
    note, difference = verdict.note, verdict.difference or 0.0
    if state == "reproduced" and verdict.p_differ is not None and verdict.p_differ <= ALPHA and difference:
        side = "higher" if difference > 0 else "lower"
        note = _join(note, f"inside the margin, yet {abs(difference):.2g} {side}")
    if state == "inconclusive":
        note = _join(note, _more_seeds(verdict.gap, ALPHA / verdict.tests, verdict.margin, tails=2))
        if verdict.plain != state:
            note = _join(note, f"{verdict.plain} before the adjustment for {verdict.tests} claims")
    return replace(verdict, state=state, note=note)


def _value_state(equal: float, differ: float) -> str:
    return "reproduced" if equal <= ALPHA else "differs" if differ <= ALPHA else "inconclusive"


# Orderings


def _judge_orderings(recipe: Recipe, rows: list[Row]) -> list[OrderingVerdict]:
    """Every ordering where the plan has both rows: same scale and data set, equal in the axes they share."""
    places: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        if row.recipe.name == recipe.name:
            places[row.scale, row.dataset, row.variant].append(row)
    verdicts = []
    for ordering in recipe.orderings:
        for (scale, dataset, variant), betters in places.items():
            if variant != ordering.better or (ordering.datasets is not None and dataset not in ordering.datasets):
                continue
            worses = [row for row in places.get((scale, dataset, ordering.worse), []) if _is_asked(ordering, row)]
            for better in (row for row in betters if _is_asked(ordering, row)):
                for worse in worses:
                    shared = better.axes.keys() & worse.axes.keys()
                    if all(better.axes[key] == worse.axes[key] for key in shared):
                        verdicts.append(_judge_ordering(ordering, better, worse))
    return verdicts


def _is_asked(ordering: Ordering, row: Row) -> bool:
    return all(row.axes[key] in values for key, values in ordering.axes.items() if key in row.axes)


def _judge_ordering(ordering: Ordering, better: Row, worse: Row) -> OrderingVerdict:
    recipe = better.recipe
    for row in (better, worse):
        if row.state != "measured":
            return OrderingVerdict(ordering, better, worse, row.state, note=f"{row.label}: {row.note or row.state}")
    sign = 1 if recipe.higher_is_better else -1
    a, b = ({seed: sign * x for seed, x in row.values(recipe.metric).items()} for row in (better, worse))
    n = min(len(a), len(b))
    if n == 0:
        return OrderingVerdict(ordering, better, worse, "failed", note=f"the records lack the metric {recipe.metric}")
    difference = statistics.mean(a.values()) - statistics.mean(b.values())
    verdict = OrderingVerdict(ordering, better, worse, "inconclusive", n, a.keys() == b.keys(), difference)
    if n == 1:
        return replace(verdict, note="one seed has no spread")
    return replace(verdict, gap=gap_of_order(a, b))


def _adjust_orderings(verdicts: list[OrderingVerdict]) -> list[OrderingVerdict]:
    families: dict[tuple, list[int]] = defaultdict(list)
    for index, verdict in enumerate(verdicts):
        if verdict.gap:
            families[verdict.better.recipe.name, verdict.better.scale].append(index)
    verdicts = list(verdicts)
    for family in families.values():
        gaps = [gap for index in family if (gap := verdicts[index].gap)]
        holds = holm([p_greater(gap) for gap in gaps])
        turned = holm([p_greater(replace(gap, difference=-gap.difference)) for gap in gaps])
        for index, gap, p, q in zip(family, gaps, holds, turned, strict=True):
            state = "holds" if p <= ALPHA else "reversed" if q <= ALPHA else "inconclusive"
            note = _power(gap, ALPHA / len(family)) if state == "inconclusive" else ""
            verdict = replace(verdicts[index], state=state, p_holds=p, p_reversed=q, tests=len(family), note=note)
            verdicts[index] = verdict
    return verdicts


# Comparisons


def _compare(recipe: Recipe, rows: list[Row]) -> list[Compared]:
    """Each variant against its reference, at each scale that plans both; pairs share place and seed."""
    found = []
    for scale in reversed(SCALES):
        here = [row for row in rows if (row.recipe.name, row.scale) == (recipe.name, scale)]
        for comparison in recipe.comparisons:
            for name in comparison.variants:
                pairs = [
                    (row, other)
                    for row in here
                    for other in here
                    if (row.variant, other.variant, row.dataset) == (name, comparison.reference, other.dataset)
                    if all(row.axes[key] == other.axes[key] for key in row.axes.keys() & other.axes.keys())
                ]
                if pairs:
                    found.append(_compare_pairs(pairs, comparison.source))
    return found


def _compare_pairs(pairs: list[tuple[Row, Row]], source: str) -> Compared:
    first, reference = pairs[0]
    metric = first.recipe.metric
    differences: list[float] = []
    datasets: dict[str, None] = {}
    measured = 0
    for row, other in pairs:
        ours, theirs = row.values(metric), other.values(metric)
        shared = sorted(ours.keys() & theirs.keys())
        differences += [_difference(ours[seed], theirs[seed]) for seed in shared]
        if shared:
            measured += 1
            datasets[row.dataset] = None
    return Compared(
        first.recipe,
        first.scale,
        first.variant,
        reference.variant,
        source,
        tuple(differences),
        tuple(datasets),
        len(pairs),
        measured,
    )


def _difference(a: float, b: float) -> float:
    """a - b to ten digits of the larger one: what only rounding tells apart must tie."""
    largest = max(abs(a), abs(b))
    return round(a - b, 9 - math.floor(math.log10(largest))) if largest else 0.0


def _adjust_comparisons(found: list[Compared]) -> list[Compared]:
    families: dict[tuple, list[int]] = defaultdict(list)
    for index, compared in enumerate(found):
        if compared.differences:
            families[compared.recipe.name, compared.scale].append(index)
    found = list(found)
    for family in families.values():
        adjusted = holm([p_signed_rank(found[index].differences) for index in family])
        for index, p in zip(family, adjusted, strict=True):
            note = _few_pairs(found[index], len(family)) if p > ALPHA else ""
            found[index] = replace(found[index], p=p, tests=len(family), note=note)
    return found


def _few_pairs(found: Compared, tests: int) -> str:
    """Why a comparison that shows no difference could hardly have shown one; empty where it could."""
    if not found.unequal:
        return "all pairs are equal"
    least = least_p_signed_rank(found.unequal)
    if found.too_few:
        return f"too few unequal pairs: all on one side give p = {least:.3g}, which decides nothing at 5 %"
    if least * tests > ALPHA:
        return f"few unequal pairs: all on one side give p = {least:.3g} before the adjustment for {tests} tests"
    return ""


def _more_seeds(gap: Gap | None, alpha: float, margin: float | None, tails: int) -> str:
    more = seeds_needed(gap, alpha, margin, tails) if gap else None
    return f"about {more} more seeds would settle it" if more else f"{MOST_SEEDS} seeds would not settle it"


def _power(gap: Gap, alpha: float) -> str:
    """What would settle an ordering, and what these seeds could have shown at the strictest level of the adjustment."""
    more, least = _more_seeds(gap, alpha, None, tails=1), detectable(gap, alpha)
    return f"{more}; these {gap.n} would show a difference of {least:.3g} in 4 of 5 cases" if least else more


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
