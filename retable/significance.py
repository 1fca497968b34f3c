"""The tests behind verdicts: equivalence, difference, order, trend, and how many seeds would decide an open one.

`docs/statistics.md` states the rules. Tests of means are t-tests on a `MeanDifference`: a difference with the standard
error of our side and, for claims, that of the paper. No test takes a spread of zero: the least standard deviation is
the metric's resolution, and two equal values are refused. Rows of which some seeds collapsed take exact tests of ranks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Not scipy.stats, which has the same functions: its import takes longer than everything that is asked of them here.
from scipy.special import bdtr, bdtrc, betainccinv, betaincinv, nctdtr, ndtri, stdtr, stdtrit

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 200


@dataclass(frozen=True)
class MeanDifference:
    """A difference of means over `n` seeds.

    `per_seed` is the variance that is divided by the number of seeds, `freedom` its degrees of freedom. `fixed` is the
    variance of the paper's own mean, which more seeds here do not shrink; a test that uses it too has `both` degrees
    of freedom.
    """

    difference: float
    n: int
    per_seed: float
    freedom: float
    fixed: float = 0.0
    both: float | None = None

    @property
    def error(self) -> float:
        """Standard error of our side."""
        return math.sqrt(self.per_seed / self.n)

    @property
    def full_error(self) -> float:
        """Standard error with that of the paper's mean."""
        return math.sqrt(self.per_seed / self.n + self.fixed)


def average(values: Iterable[float]) -> float:
    """The mean to within its last bit; that of equal values is exactly theirs. `statistics.mean` takes ten times as
    long, and pages of 100,000 runs ask for some million means.
    """
    values = list(values)
    return values[0] if values.count(values[0]) == len(values) else math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    """Sample variance (n - 1) of two values or more; that of equal ones is exactly 0."""
    middle = average(values)
    return math.fsum([(value - middle) * (value - middle) for value in values]) / (len(values) - 1)


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None below two values. Equal values give exactly 0."""
    return math.sqrt(_variance(values)) if len(values) > 1 else None


def variance_of(values: Sequence[float], resolution: float) -> float | None:
    """Sample variance, at least the square of `resolution`; None where it says nothing: one value, two equal ones."""
    if len(values) < 2:
        return None
    variance = _variance(values)
    if len(values) == 2 and math.sqrt(variance) <= 1e-9 * max(1.0, abs(values[0])):
        return None
    return max(variance, resolution**2)


def printed_digit(value: float, unit: str = "") -> float:
    """One unit of the last digit of a printed number: of a claim as it is written, of ours as pages print it."""
    if unit == "count":
        return 1.0
    places = repr(float(value)).partition("e")[0].partition(".")[2]
    return 10.0 ** -len(places)


def gap_to_claim(
    values: Sequence[float], claimed: float, std: float | None, runs: int | None, resolution: float
) -> MeanDifference | None:
    """Mean of `values` minus a published mean; None where `values` have no spread to test with.

    `std` and `runs` are those over trainings, None where the paper does not give them. The paper's mean has the
    variance std^2 / runs (Welch's test from summaries); s^2 / runs without a deviation, s being ours; std^2, as of one
    run, without a number of runs; s^2 without either.
    """
    variance, n = variance_of(values, resolution), len(values)
    if variance is None:
        return None
    theirs = variance if std is None else max(std, resolution) ** 2
    fixed = theirs / (runs or 1)
    both = min(n, runs) - 1.0 if std is not None and runs is not None and runs > 1 else n - 1.0
    return MeanDifference(average(values) - claimed, n, variance, n - 1.0, fixed, both)


def gap_of_order(
    better: Mapping[int, float], worse: Mapping[int, float], resolution: float, paired: bool
) -> MeanDifference | None:
    """Mean of `better` minus mean of `worse`, both by seed; None where there is no spread to test with.

    `paired` tests the differences of equal seeds, which both must have; otherwise the test is Welch's, with the degrees
    of freedom of the smaller side: with Satterthwaite's it errs in up to 12 % at a level of 5 % (2 seeds against 20).
    """
    if paired:
        return gap_of_values([better[seed] - worse[seed] for seed in sorted(better)], resolution)
    sides = [list(better.values()), list(worse.values())]
    parts = [(variance_of(values, resolution), len(values)) for values in sides]
    known = [(variance / count, count) for variance, count in parts if variance is not None]
    if len(known) < 2:
        return None
    n = min(count for _, count in known)
    squared = sum(part for part, _ in known)
    return MeanDifference(average(sides[0]) - average(sides[1]), n, squared * n, n - 1.0)


def gap_of_values(values: Sequence[float], resolution: float) -> MeanDifference | None:
    """Mean of values, one a seed, against 0; None where there is no spread to test with."""
    variance = variance_of(values, resolution)
    return None if variance is None else MeanDifference(average(values), len(values), variance, len(values) - 1.0)


def slopes(by_place: Mapping[float, Mapping[int, float]]) -> dict[int, float]:
    """The least-squares slope of each seed's values over the places, for the seeds that have a value at all of them."""
    places = sorted(by_place)
    middle = average(places)
    spread = sum((x - middle) ** 2 for x in places)
    seeds = set.intersection(*(set(values) for values in by_place.values()))
    return {
        seed: sum((x - middle) * by_place[x][seed] for x in places) / spread if spread else 0.0
        for seed in sorted(seeds)
    }


def p_equal(gap: MeanDifference, margin: float) -> float:
    """Two one-sided t-tests with our error: the p-value of `|true difference| >= margin`; small means equivalent."""
    return float(stdtr(gap.freedom, (abs(gap.difference) - margin) / gap.error))


def p_beyond(gap: MeanDifference, margin: float) -> float:
    """One-sided t-test with our error: the p-value of `|true difference| <= margin`; small means outside."""
    return float(stdtr(gap.freedom, (margin - abs(gap.difference)) / gap.error))


def p_differ(gap: MeanDifference) -> float:
    """Two-sided t-test with both errors: the p-value of `true difference = 0`."""
    freedom = gap.freedom if gap.both is None else gap.both
    return float(2 * stdtr(freedom, -abs(gap.difference) / gap.full_error))


def p_greater(gap: MeanDifference) -> float:
    """One-sided t-test with our error: the p-value of `true difference <= 0`."""
    return float(stdtr(gap.freedom, -gap.difference / gap.error))


def undecidable(gaps: Sequence[MeanDifference], margin: float) -> bool:
    """Whether no number of seeds can decide a claim, from its gap at each look.

    Our mean is shown to lie outside the margin (5 %), so that the claim cannot become reproduced, and the paper's own
    error is so large that even our exact mean would not differ from it (5 %, of which a look has half).
    """
    reach = -float(ndtri(ALPHA / 4)) * math.sqrt(gaps[-1].fixed)
    return p_of_two(*(p_beyond(gap, margin) for gap in gaps)) <= ALPHA and abs(gaps[-1].difference) <= reach


def p_signed_rank(differences: Sequence[float]) -> float:
    """Wilcoxon's signed-rank test, two-sided: the p-value of `differences lie symmetrically around 0`."""
    return min(1.0, 2 * min(signed_rank_tails(differences)))


def signed_rank_tails(differences: Sequence[float]) -> tuple[float, float]:
    """Wilcoxon's signed-rank test, one-sided: the p-value of `not above 0`, and that of `not below 0`.

    Exact for any number of pairs, ties included, where the usual normal approximation promises too much for few pairs.
    Differences of 0 are left out, as Wilcoxon did; without any other both p-values are 1.
    """
    ranks = _signed_ranks(differences)
    sizes = np.abs(ranks)
    chance = np.zeros(sizes.sum() + 1)
    chance[0] = 1.0
    for size in sizes:
        chance = (chance + np.roll(chance, size)) / 2
    above = int(ranks[ranks > 0].sum())
    return float(chance[above:].sum()), float(chance[: above + 1].sum())


def p_rank_sum(first: Sequence[float], second: Sequence[float]) -> float:
    """Wilcoxon's rank-sum test, one-sided and exact, ties included: small means that `first` tends to be larger."""
    ranks = (2 * _ranks([*first, *second])).astype(int).tolist()
    chosen, observed = len(first), sum(ranks[: len(first)])
    # ways[k][s]: the number of choices of k values whose doubled ranks sum to s.
    ways = np.zeros((chosen + 1, sum(ranks) + 1))
    ways[0, 0] = 1.0
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    return float(ways[chosen, observed:].sum() / ways[chosen].sum())


def _ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Ranks from 1 on; those that tie share their mean rank."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]


def side(differences: Sequence[float]) -> int:
    """Where the signed ranks of the differences lead: 1 above 0, -1 below, 0 if they balance."""
    return int(np.sign(_signed_ranks(differences).sum()))


def _signed_ranks(differences: Sequence[float]) -> np.ndarray:
    """Twice the rank of each difference's size, with its sign: whole numbers, also where ties share a mean rank."""
    values = np.array([value for value in differences if value])
    return (np.sign(values) * 2 * _ranks(np.abs(values))).astype(int)


def least_p_signed_rank(n: int) -> float:
    """The smallest p-value that the signed-rank test of n pairs can give: all differences on one side."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: comparing the results with ALPHA bounds the family-wise error at ALPHA."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's step-up adjustment: comparing with ALPHA bounds the false discovery rate at ALPHA."""
    adjusted, total, running = [0.0] * len(p_values), len(p_values), 1.0
    for rank, index in enumerate(sorted(range(total), key=p_values.__getitem__, reverse=True)):
        running = min(running, p_values[index] * total / (total - rank))
        adjusted[index] = running
    return adjusted


def p_of_two(first: float | None, second: float | None = None) -> float:
    """The p-value of two tests of which the smaller one counts: both directions of a statement, or two looks at growing
    data. A test that was not made is None, such as a second look that may still come; one was made.
    """
    return min(1.0, 2 * min(p for p in (first, second) if p is not None))


def favours(p_for: float | None, p_against: float | None) -> bool:
    """Whether the values lean to a statement rather than to its opposite; a test that was not made is None."""
    return (1.0 if p_for is None else p_for) < (1.0 if p_against is None else p_against)


def interval(gap: MeanDifference) -> tuple[float, float]:
    """The 95 % interval of a difference, with both errors as in `p_differ`; of one look, not adjusted for others."""
    freedom = gap.freedom if gap.both is None else gap.both
    half = float(stdtrit(freedom, 1 - ALPHA / 2)) * gap.full_error
    return gap.difference - half, gap.difference + half


def interval_of_mean(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % t-interval of a mean; None below two values."""
    if (spread := deviation(values)) is None:
        return None
    half = float(stdtrit(len(values) - 1, 1 - ALPHA / 2)) * spread / math.sqrt(len(values))
    return average(values) - half, average(values) + half


def exact_interval(hits: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share."""
    low = float(betaincinv(hits, n - hits + 1, ALPHA / 2)) if hits else 0.0
    high = float(betainccinv(hits + 1, n - hits, ALPHA / 2)) if hits < n else 1.0
    return low, high


def look_two(gap: MeanDifference, alpha: float, margin: float | None = None, tails: int = 2) -> int | None:
    """Seeds of a second look that reaches a decision with 80 % power, if mean and spread stay as they are in `gap`.

    A decision is a significant difference (`tails`-sided at `alpha`) or, given a margin, equivalence at 5 %; the look
    has half of either level. The power is that of the shifted central t distribution, an approximation. None when
    MOST_SEEDS would not do.
    """
    n = np.arange(gap.n + 1, MOST_SEEDS + 1)
    if not n.size:
        return None
    error, freedom, difference = np.sqrt(gap.per_seed / n), n - 1.0, abs(gap.difference)
    full = np.sqrt(gap.per_seed / n + gap.fixed)
    decided = stdtr(freedom, difference / full + stdtrit(freedom, alpha / 2 / tails))
    if margin is not None:
        critical = -stdtrit(freedom, ALPHA / 2)
        near = stdtr(freedom, (margin - difference) / error - critical)
        far = stdtr(freedom, (margin + difference) / error - critical)
        decided = np.maximum(decided, near + far - 1)
    enough = np.flatnonzero(decided >= POWER)
    return int(n[enough[0]]) if enough.size else None


def look_two_of_ranks(first: Sequence[float], second: Sequence[float], alpha: float, tails: int = 2) -> int | None:
    """As `look_two`, for the rank-sum test of two samples; after Noether (1987)."""
    above = np.subtract.outer(first, second)
    lead = abs(float(np.mean(above > 0) + np.mean(above == 0) / 2) - 0.5)
    if not lead:
        return None
    n = math.ceil(float(ndtri(1 - alpha / 2 / tails) + ndtri(POWER)) ** 2 / (6 * lead**2))
    return max(n, len(first) + 1, len(second) + 1) if n <= MOST_SEEDS else None


def look_two_of_signed_ranks(values: Sequence[float], alpha: float, tails: int = 2) -> int | None:
    """As `look_two`, for the signed-rank test of one sample; after Noether (1987)."""
    above = np.add.outer(values, values)
    lead = abs(float(np.mean(above > 0) + np.mean(above == 0) / 2) - 0.5)
    if not lead:
        return None
    n = math.ceil(float(ndtri(1 - alpha / 2 / tails) + ndtri(POWER)) ** 2 / (3 * lead**2))
    return max(n, len(values) + 1) if n <= MOST_SEEDS else None


def look_two_of_share(hits: int, n: int, alpha: float, tails: int = 2) -> int | None:
    """As `look_two`, for the exact binomial test of a share, seen in `hits` of `n` seeds, against one half."""
    share = max(hits, n - hits) / n
    for more in range(n + 1, MOST_SEEDS + 1):
        if bdtrc(_least_hits(alpha / 2 / tails, more), more, share) >= POWER:
            return more
    return None


def _least_hits(level: float, n: int) -> int:
    """The least k with P(more than k of n) <= level, each at one half."""
    return next(k for k in range(n + 1) if bdtrc(k, n, 0.5) <= level)


def share_tail(hits: int, n: int) -> tuple[float, float]:
    """P(so many hits of n or more) and P(so many or fewer), each at one half."""
    return float(bdtrc(hits - 1, n, 0.5)) if hits else 1.0, float(bdtr(hits, n, 0.5))


def detectable(gap: MeanDifference, alpha: float) -> float:
    """The true difference that the one-sided test of this gap would show with 80 % power, at its spread and seeds."""
    critical = -float(stdtrit(gap.freedom, alpha))
    low, high = 0.0, 4 * critical + 4  # power alpha, and nearly 1
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - nctdtr(gap.freedom, middle, critical) < POWER else (low, middle)
    return float(high * gap.error)
