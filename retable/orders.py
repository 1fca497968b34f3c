"""Rows judged against each other: orderings, equivalences, trends and comparisons, at any scale. Pure functions.

Holm's adjustment covers each recipe's orderings at a scale, likewise its equivalences, trends and comparisons.
`docs/statistics.md` states the rules.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, TypeVar

from retable.cards import SCALES, Asked, Equivalence, Ordering, PaperCard, Recipe, Scale, Trend
from retable.looks import in_common
from retable.rows import DeviceHours, Row, hours_to, most_seeds, possible
from retable.significance import (
    ALPHA,
    MeanDifference,
    average,
    detectable,
    favours,
    gap_of_order,
    gap_of_values,
    holm,
    interval,
    least_p_signed_rank,
    look_two,
    look_two_of_ranks,
    look_two_of_signed_ranks,
    p_beyond,
    p_equal,
    p_greater,
    p_of_two,
    p_rank_sum,
    p_signed_rank,
    side,
    signed_rank_tails,
    slopes,
)

OPEN_STATES = ("mixture", "not known", "not measured at this scale", "incomplete", "diverged", "failed", "stale",
               "not run")  # fmt: skip
ORDER_STATES = ("holds", "reversed", "inconclusive", *OPEN_STATES)
EQUIVALENCE_STATES = ("equivalent", "not equivalent", "inconclusive", *OPEN_STATES)
RANKED = ("mixture", "not known")


@dataclass(frozen=True)
class Verdict:
    """What orderings, equivalences and trends have in common.

    `p_for` and `p_against` are over the `looks` and unadjusted otherwise: of the statement, and of its opposite; `raw`
    holds them look by look. `p` is Holm's over the `tests` of the family, both directions together. `test` names the
    test, `devices` the kinds of device if the rows have several. An inconclusive one with one look says how many seeds
    in all `look_two` needs and what `hours` they take; None where that is not known.
    """

    rows: tuple[Row, ...]
    state: str
    n: int = 0
    difference: float | None = None
    test: str = ""
    p_for: float | None = None
    p_against: float | None = None
    p: float | None = None
    tests: int = 0
    note: str = ""
    devices: tuple[str, ...] = ()
    gap: MeanDifference | None = field(default=None, repr=False)
    looks: tuple[int, ...] = ()
    raw: tuple[tuple[float | None, float | None], ...] = ()
    look_two: int | None = None
    hours: DeviceHours | None = None

    kind: ClassVar[Literal["ordering", "equivalence", "trend", "state"]]

    @property
    def asked(self) -> Asked:
        """The statement on the card."""
        raise NotImplementedError

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def scale(self) -> Scale:
        return self.first.scale

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `difference`, of the last look, not adjusted; None where no test of means was made."""
        if self.gap is None or self.difference is None:
            return None
        low, high = interval(self.gap)
        return (low, high) if self.gap.difference * self.difference >= 0 else (-high, -low)

    @property
    def favours(self) -> bool:
        """Whether the seeds lean to the statement rather than to its opposite."""
        return favours(self.p_for, self.p_against)

    def seeds_to_decide(self, alpha: float, tails: int = 2) -> int | None:
        """Seeds of a second look that decides at `alpha` with 80 % power; None where that is not known."""
        return look_two(self.gap, alpha, tails=tails) if self.gap else None


@dataclass(frozen=True)
class OrderingVerdict(Verdict):
    """`better > worse` at a point of the grid. `difference` is positive where the means agree with it."""

    kind = "ordering"
    ordering: Ordering = field(kw_only=True)

    @property
    def asked(self) -> Ordering:
        return self.ordering

    @property
    def better(self) -> Row:
        return self.rows[0]

    @property
    def worse(self) -> Row:
        return self.rows[1]

    def seeds_to_decide(self, alpha: float, tails: int = 2) -> int | None:
        if self.gap or self.p_for is None:
            return super().seeds_to_decide(alpha, tails)
        metric = metric_of(self.first.recipe, self.ordering)
        first, second = (list(row.values(metric).values()) for row in self.rows)
        return look_two_of_ranks(first, second, alpha, tails)


@dataclass(frozen=True)
class EquivalenceVerdict(Verdict):
    """Whether two rows differ by less than a margin at a point of the grid. `difference` is first minus second."""

    kind = "equivalence"
    equivalence: Equivalence = field(kw_only=True)

    @property
    def asked(self) -> Equivalence:
        return self.equivalence

    def seeds_to_decide(self, alpha: float, tails: int = 2) -> int | None:
        if self.gap is None:
            return None
        # It is the distance to the margin that must be shown, whichever side the truth is on.
        distance = replace(self.gap, difference=abs(self.gap.difference) - self.equivalence.within)
        return look_two(distance, alpha, tails=tails)


@dataclass(frozen=True)
class TrendVerdict(Verdict):
    """Whether a row's metric rises or falls along an axis. `difference` is the mean slope, positive where it rises."""

    kind = "trend"
    trend: Trend = field(kw_only=True)

    @property
    def asked(self) -> Trend:
        return self.trend

    def seeds_to_decide(self, alpha: float, tails: int = 2) -> int | None:
        if self.gap or self.p_for is None:
            return super().seeds_to_decide(alpha, tails)
        return look_two_of_signed_ranks(list(_slopes(self.trend, self.rows).values()), alpha, tails)


AnyVerdict = TypeVar("AnyVerdict", bound=Verdict)
Directed = TypeVar("Directed", OrderingVerdict, TrendVerdict)


def metric_of(recipe: Recipe, asked: Asked) -> str:
    """The metric that a statement is about."""
    return asked.metric or recipe.metric


def sign_of(recipe: Recipe, asked: Asked) -> int:
    """1 where more of the metric is better, else -1."""
    return 1 if (recipe.higher_is_better if asked.higher_is_better is None else asked.higher_is_better) else -1


def paired(first: Row, second: Row) -> bool:
    """Whether equal seeds of two rows are pairs: the seed decides something that both share, and kind of device and
    instruction set agree.
    """
    a, b = ({record.seed for record in row.records} for row in (first, second))
    return bool(first.recipe.protocol.shared) and a == b and all(first.device(s) == second.device(s) for s in a)


def resolution_of(rows: Sequence[Row], metric: str) -> float:
    """The least step of the metric: one test item where the records count them, else the digit that pages print."""
    known = [row.resolution(metric) for row in rows]
    if all(known):
        return max(step for step in known if step)
    if rows[0].recipe.unit == "%" and metric == rows[0].recipe.metric:
        return 0.01
    largest = max((abs(value) for row in rows for value in row.values(metric).values()), default=0.0)
    return 10.0 ** (math.floor(math.log10(largest)) - 3) if largest else 1e-4


# Orderings


def judge_orderings(paper: PaperCard, rows: list[Row]) -> list[OrderingVerdict]:
    """Every ordering where the plan has both rows: same scale and data set, equal in the axes they share."""
    return adjust(
        [
            over_looks(lambda at, asked=ordering: _judge_ordering(asked, at, rows), pair)
            for recipe in paper.recipes
            for ordering in recipe.orderings
            for pair in _pairs(recipe, ordering, ordering.better, ordering.worse, rows)
        ],
        _settle_direction,
    )


def _judge_ordering(ordering: Ordering, pair: tuple[Row, Row], rows: list[Row]) -> OrderingVerdict:
    recipe = pair[0].recipe
    metric, sign = metric_of(recipe, ordering), sign_of(recipe, ordering)
    if lack := missing(pair, metric, rows):
        return OrderingVerdict(pair, lack[0], note=lack[1], ordering=ordering)
    a, b, difference, test = _side_by_side(pair, metric, sign)
    ranked = _ranked(pair, metric)
    test = "exact rank sum" if ranked else test
    verdict = OrderingVerdict(
        pair, "inconclusive", min(len(a), len(b)), difference, test, devices=_devices(pair), ordering=ordering
    )
    if ranked:
        p_for, p_against = (p_rank_sum(list(x.values()), list(y.values())) for x, y in ((a, b), (b, a)))
        return replace(verdict, p_for=p_for, p_against=p_against, note=_of_ranks(ranked, metric))
    gap = gap_of_order(a, b, resolution_of(pair, metric), test == "paired t")
    return _with_gap(verdict, gap, p_greater)


def _with_gap(verdict: AnyVerdict, gap: MeanDifference | None, test: Callable[[MeanDifference], float]) -> AnyVerdict:
    if gap is None:
        why = "one seed has no spread" if verdict.n < 2 else "two equal values have no spread to test with"
        return replace(verdict, test="", note=why)
    opposite = replace(gap, difference=-gap.difference)
    return replace(verdict, gap=gap, p_for=test(gap), p_against=test(opposite))


def _settle_direction(verdict: Directed) -> Directed:
    """State and note of an ordering or a trend, from the adjusted p-value."""
    assert verdict.p is not None
    if verdict.p <= ALPHA:
        return replace(verdict, state="holds" if verdict.favours else "reversed")
    return replace(verdict, state="inconclusive", note=join(verdict.note, _power(verdict)))


# Equivalences


def judge_equivalences(paper: PaperCard, rows: list[Row]) -> list[EquivalenceVerdict]:
    """Every equivalence where the plan has both rows."""
    return adjust(
        [
            over_looks(lambda at, asked=equivalence: _judge_equivalence(asked, at, rows), pair)
            for recipe in paper.recipes
            for equivalence in recipe.equivalences
            for pair in _pairs(recipe, equivalence, equivalence.first, equivalence.second, rows)
        ],
        _settle_equivalence,
    )


def _judge_equivalence(equivalence: Equivalence, pair: tuple[Row, Row], rows: list[Row]) -> EquivalenceVerdict:
    metric = metric_of(pair[0].recipe, equivalence)
    if lack := missing(pair, metric, rows) or _mixed(pair, metric):
        return EquivalenceVerdict(pair, lack[0], note=lack[1], equivalence=equivalence)
    a, b, difference, test = _side_by_side(pair, metric)
    verdict = EquivalenceVerdict(
        pair, "inconclusive", min(len(a), len(b)), difference, test, devices=_devices(pair), equivalence=equivalence
    )
    gap = gap_of_order(a, b, resolution_of(pair, metric), test == "paired t")
    verdict = _with_gap(verdict, gap, lambda each: p_equal(each, equivalence.within))
    return replace(verdict, p_against=p_beyond(gap, equivalence.within)) if gap else verdict


def _settle_equivalence(verdict: EquivalenceVerdict) -> EquivalenceVerdict:
    assert verdict.p is not None
    if verdict.p > ALPHA:
        return verdict
    return replace(verdict, state="equivalent" if verdict.favours else "not equivalent")


# Trends


def judge_trends(paper: PaperCard, rows: list[Row]) -> list[TrendVerdict]:
    """Every trend of a row whose axis takes two values or more in the plan."""
    found = []
    for recipe in paper.recipes:
        for trend in recipe.trends:
            lines: dict[tuple, list[Row]] = defaultdict(list)
            for row in rows:
                if is_asked(recipe, trend, row) and row.variant == trend.variant and trend.along in row.axes:
                    fixed = tuple((key, value) for key, value in row.axes.items() if key != trend.along)
                    lines[row.scale, row.dataset, fixed].append(row)
            found += [
                over_looks(lambda at, asked=trend: _judge_trend(asked, at, rows), tuple(line))
                for line in lines.values()
                if len(line) > 1
            ]
    return adjust(found, _settle_direction)


def _judge_trend(trend: Trend, line: tuple[Row, ...], rows: list[Row]) -> TrendVerdict:
    metric = metric_of(line[0].recipe, trend)
    if lack := missing(line, metric, rows):
        return TrendVerdict(line, lack[0], note=lack[1], trend=trend)
    found = _slopes(trend, line)
    if not found:
        return TrendVerdict(line, "incomplete", note="no seed has a value at all places", trend=trend)
    ranked = _ranked(line, metric)
    verdict = TrendVerdict(
        line, "inconclusive", len(found), average(found.values()), "t of slopes", devices=_devices(line),
        trend=trend,
    )  # fmt: skip
    asked = [(1 if trend.direction == "rises" else -1) * slope for slope in found.values()]
    if ranked:
        p_for, p_against = signed_rank_tails(asked)
        return replace(
            verdict,
            test="exact signed rank of slopes",
            p_for=p_for,
            p_against=p_against,
            note=_of_ranks(ranked, metric),
        )
    places = [_place(trend, row) for row in line]
    step = resolution_of(line, metric) / (max(places) - min(places))
    return _with_gap(verdict, gap_of_values(asked, step), p_greater)


def _slopes(trend: Trend, line: tuple[Row, ...]) -> dict[int, float]:
    """The slope of each seed that has a value at all places."""
    metric = metric_of(line[0].recipe, trend)
    return slopes({_place(trend, row): row.values(metric) for row in line})


def _place(trend: Trend, row: Row) -> float:
    value = float(row.axes[trend.along])
    return math.log2(value) if trend.log else value


# What they share


def _pairs(recipe: Recipe, asked: Asked, first: str, second: str, rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    return _matched([row for row in rows if is_asked(recipe, asked, row)], first, second)


def _matched(rows: list[Row], first: str, second: str) -> Iterator[tuple[Row, Row]]:
    """Rows of two variants at the same scale and data set, equal in the axes that they share."""
    seconds: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.variant == second:
            seconds[row.scale, row.dataset].append(row)
    for row in rows:
        if row.variant == first:
            for other in seconds[row.scale, row.dataset]:
                if all(row.axes[key] == other.axes[key] for key in row.axes.keys() & other.axes.keys()):
                    yield row, other


def _side_by_side(
    pair: tuple[Row, Row], metric: str, sign: int = 1
) -> tuple[dict[int, float], dict[int, float], float, str]:
    """Values of both rows by seed, times `sign`, the difference of their means, and the test for it."""
    a, b = ({seed: sign * x for seed, x in row.values(metric).items()} for row in pair)
    difference = average(a.values()) - average(b.values())
    return a, b, difference, "paired t" if paired(*pair) and a.keys() == b.keys() else "Welch’s t"


def is_asked(recipe: Recipe, asked: Asked, row: Row) -> bool:
    """Whether a statement of the recipe is asked at the row's data set and setting."""
    if row.recipe.name != recipe.name or (asked.datasets is not None and row.dataset not in asked.datasets):
        return False
    return all(row.axes[key] in values for key, values in asked.axes.items() if key in row.axes)


def missing(needed: Sequence[Row], metric: str, rows: Sequence[Row]) -> tuple[str, str] | None:
    """State and note of the first row without a result in the metric."""
    for row in needed:
        if row.state != "measured":
            return row.state, f"{row.label}: {row.note or row.state}"
        if not row.values(metric):
            alike = [other for other in rows if (other.recipe.name, other.scale) == (row.recipe.name, row.scale)]
            state = "failed" if any(other.values(metric) for other in alike) else "not measured at this scale"
            return state, f"the records of {row.label} lack the metric {metric}"
    return None


def _mixed(needed: Sequence[Row], metric: str) -> tuple[str, str] | None:
    """State and note of the first row that takes no test of means."""
    found = _ranked(needed, metric)
    return (found[0].condition(metric), f"{found[0].label} takes no test of means") if found else None


def _ranked(rows: Sequence[Row], metric: str) -> list[Row]:
    """The rows that take no test of means."""
    return [row for row in rows if row.condition(metric) in RANKED]


def _of_ranks(ranked: Sequence[Row], metric: str) -> str:
    """Why a statement is tested by ranks."""
    return "; ".join(dict.fromkeys(f"{row.label}: {row.condition(metric)}, no test of means" for row in ranked))


def _devices(rows: Sequence[Row]) -> tuple[str, ...]:
    found = sorted({device for row in rows for device in row.devices})
    return tuple(found) if len(found) > 1 else ()


def over_looks(judge: Callable[..., AnyVerdict], rows: tuple[Row, ...]) -> AnyVerdict:
    """The verdict of `judge` on some rows, not adjusted yet, over the looks that they have in common.

    Each look has half of the level, also while the second one is not taken: p is twice the smaller one.
    """
    if not all(row.looks for row in rows):
        return judge(rows)
    looks = in_common([row.looks for row in rows])
    found = [judge(tuple(row.at(seeds) for row in rows)) for seeds in looks]
    last = replace(found[-1], looks=looks, raw=tuple((each.p_for, each.p_against) for each in found))
    if last.p_for is None or last.p_against is None:
        return last
    p_for, p_against = (p_of_two(*directions) for directions in zip(*last.raw, strict=True))
    return replace(last, p_for=p_for, p_against=p_against)


def designed(verdict: AnyVerdict) -> AnyVerdict:
    """An inconclusive verdict with the second look that would decide it at the strictest level of the adjustment."""
    if len(verdict.looks) == 2:
        return replace(verdict, note=join(verdict.note, BOTH_LOOKS))
    seeds = possible(verdict.seeds_to_decide(ALPHA / verdict.tests), verdict.rows)
    hours = hours_to(verdict.rows, seeds) if seeds else None
    note = join(design(seeds, hours, most_seeds(verdict.rows)), verdict.note)
    return replace(verdict, look_two=seeds, hours=hours, note=note)


def adjust(verdicts: list[AnyVerdict], settle: Callable[[AnyVerdict], AnyVerdict]) -> list[AnyVerdict]:
    """Holm over each recipe's verdicts at a scale; both directions of one are one test, of twice the smaller p."""
    families: dict[tuple, list[int]] = defaultdict(list)
    for index, verdict in enumerate(verdicts):
        if verdict.p_for is not None:
            families[verdict.first.recipe.name, verdict.scale].append(index)
    verdicts = list(verdicts)
    for family in families.values():
        raw = [p_of_two(verdicts[index].p_for, verdicts[index].p_against) for index in family]
        for index, p in zip(family, holm(raw), strict=True):
            settled = settle(replace(verdicts[index], p=p, tests=len(family)))
            verdicts[index] = designed(settled) if settled.state == "inconclusive" else settled
    return verdicts


# Comparisons


@dataclass(frozen=True)
class PairedComparison:
    """A variant against a reference at one scale, over all places (data sets, settings) where both are measured.

    `differences` are variant minus reference, by place and then by seed: the pairs of the signed-rank test, whose
    p-value is Holm's over the `tests` comparisons of the recipe at the scale. They are those of the second look once
    all measured places have one, and then `first` those of the first. `datasets` are those of the pairs; `unpaired`
    places have rows of which equal seeds are no pairs (`paired`).
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
    unpaired: int = 0
    first: tuple[float, ...] = ()
    p: float | None = None
    tests: int = 0
    note: str = ""

    @property
    def raw(self) -> float:
        """The p-value over the looks, without the adjustment."""
        return p_of_two(p_signed_rank(self.differences), p_signed_rank(self.first) if self.first else None)

    @property
    def mean(self) -> float | None:
        return average(self.differences) if self.differences else None

    @property
    def state(self) -> str:
        """`above` or `below` the reference where the test says so, else `inconclusive`, or why there is no test."""
        if self.p is None:
            return "no pairs" if self.measured else "not run"
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
        return self.unequal > 0 and self.least > ALPHA

    @property
    def least(self) -> float:
        """The smallest p-value that its unequal pairs could give in one of two looks."""
        return p_of_two(least_p_signed_rank(self.unequal))


def compare(paper: PaperCard, rows: list[Row]) -> list[PairedComparison]:
    """Each variant against its reference, at each scale that plans both; pairs share place and seed."""
    found = []
    for recipe in paper.recipes:
        for scale in reversed(SCALES):
            here = [row for row in rows if (row.recipe.name, row.scale) == (recipe.name, scale)]
            for comparison in recipe.comparisons:
                for name in comparison.variants:
                    if pairs := list(_matched(here, name, comparison.reference)):
                        found.append(_compare_pairs(pairs, comparison.source))
    return _adjust_comparisons(found)


def _compare_pairs(pairs: list[tuple[Row, Row]], source: str) -> PairedComparison:
    first, reference = pairs[0]
    found = PairedComparison(first.recipe, first.scale, first.variant, reference.variant, source, (), (), len(pairs), 0)
    measured = [(pair, in_common([row.looks for row in pair])) for pair in pairs if all(row.looks for row in pair)]
    if not measured:
        return found

    def at(look: int) -> PairedComparison:
        return _pairs_at(found, [tuple(row.at(looks[look]) for row in pair) for pair, looks in measured])

    if not all(len(looks) == 2 for _, looks in measured):
        return at(0)
    return replace(at(1), first=at(0).differences)


def _pairs_at(found: PairedComparison, pairs: Sequence[tuple[Row, ...]]) -> PairedComparison:
    metric = found.recipe.metric
    differences: list[float] = []
    datasets: dict[str, None] = {}
    measured = unpaired = 0
    for row, other in pairs:
        ours, theirs = row.values(metric), other.values(metric)
        shared = sorted(ours.keys() & theirs.keys())
        alike = [seed for seed in shared if row.device(seed) == other.device(seed)]
        measured += bool(shared)
        unpaired += bool(shared) and not (alike and row.recipe.protocol.shared)
        if alike and row.recipe.protocol.shared:
            differences += [_difference(ours[seed], theirs[seed]) for seed in alike]
            datasets[row.dataset] = None
    return replace(
        found, differences=tuple(differences), datasets=tuple(datasets), measured=measured, unpaired=unpaired
    )


def _difference(a: float, b: float) -> float:
    """a - b to ten digits of the larger one: what only rounding tells apart must tie."""
    largest = max(abs(a), abs(b))
    return round(a - b, 9 - math.floor(math.log10(largest))) if largest else 0.0


def _adjust_comparisons(found: list[PairedComparison]) -> list[PairedComparison]:
    families: dict[tuple, list[int]] = defaultdict(list)
    for index, compared in enumerate(found):
        if compared.differences:
            families[compared.recipe.name, compared.scale].append(index)
    found = list(found)
    for family in families.values():
        adjusted = holm([found[index].raw for index in family])
        for index, p in zip(family, adjusted, strict=True):
            note = _few_pairs(found[index], len(family)) if p > ALPHA else ""
            found[index] = replace(found[index], p=p, tests=len(family), note=note)
    return found


def _few_pairs(found: PairedComparison, tests: int) -> str:
    """Why a comparison that shows no difference could hardly have shown one; empty where it could."""
    if not found.unequal:
        return "all pairs are equal"
    if found.too_few:
        return f"too few unequal pairs: all on one side give p = {found.least:.3g}, which decides nothing at 5 %"
    if found.least * tests > ALPHA:
        return f"few unequal pairs: all on one side give p = {found.least:.3g} before the adjustment for {tests} tests"
    return ""


# In words


BOTH_LOOKS = "both looks are taken, further seeds count no more"


def design(seeds: int | None, hours: DeviceHours | None, most: int) -> str:
    """What a second look would need to decide; `seeds` are those in all, and there may be `most`."""
    if seeds is None:
        return f"a look two of up to {most} seeds would not settle it"
    return f"look two at {seeds} seeds would settle it" + ("" if hours is None else f" ({hours})")


def _power(verdict: Verdict) -> str:
    """What these seeds could have shown at the strictest level of the adjustment."""
    if verdict.gap is None:
        return ""
    # Half of the level for each direction, half of that for a look.
    least = detectable(verdict.gap, ALPHA / verdict.tests / 4)
    return f"these {verdict.gap.n} would show a difference of {least:.3g} in 4 of 5 cases"


def join(*parts: str) -> str:
    """The parts that say something, in one line."""
    return "; ".join(part for part in parts if part)
