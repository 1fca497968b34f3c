"""The tests behind verdicts: equivalence, difference, order, and how many seeds would settle an open one.

Those of claims and orderings are t-tests on a `Gap`: a difference of means with its standard error. A gap without
spread (every seed gave the same value) is decided by its size alone: the limit of the t-tests as the error vanishes.
Comparisons over several data sets, whose differences have no common spread, are signed-rank tests.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import nct, rankdata
from scipy.stats import t as student

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 200


@dataclass(frozen=True)
class Gap:
    """A difference of means, its standard error and degrees of freedom.

    `per_seed` is the variance that is divided by the number of seeds; `fixed` is the part of the squared
    standard error that more seeds do not shrink (the paper's own uncertainty).
    """

    difference: float
    n: int
    per_seed: float
    fixed: float
    freedom: float

    @property
    def error(self) -> float:
        return math.sqrt(self.per_seed / self.n + self.fixed)


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None below two values. Equal values give exactly 0."""
    return statistics.stdev(values) if len(values) > 1 else None


def gap_to_claim(values: Sequence[float], claimed: float, std: float | None, runs: int | None) -> Gap:
    """Mean of `values` (two or more) minus a published mean.

    With the publication's deviation and number of runs the gap is Welch's (degrees of freedom by
    Satterthwaite); without them the claim counts as exact (one-sample t).
    """
    n = len(values)
    variance = statistics.variance(values)
    fixed = std**2 / runs if std is not None and runs is not None and runs > 1 else 0.0
    ours = variance / n
    freedom = n - 1.0
    if fixed and runs is not None:
        freedom = (ours + fixed) ** 2 / (ours**2 / (n - 1) + fixed**2 / (runs - 1))
    return Gap(statistics.mean(values) - claimed, n, variance, fixed, freedom)


def gap_of_order(better: Mapping[int, float], worse: Mapping[int, float]) -> Gap:
    """Mean of `better` minus mean of `worse`, both by seed, two seeds or more each.

    Paired over the seeds when both have the same ones (`freedom` is then n - 1), Welch otherwise.
    """
    if better.keys() == worse.keys():
        differences = [better[seed] - worse[seed] for seed in sorted(better)]
        variance = statistics.variance(differences)
        return Gap(statistics.mean(differences), len(differences), variance, 0.0, len(differences) - 1.0)
    a, b = list(better.values()), list(worse.values())
    parts = [(statistics.variance(x) / len(x), len(x)) for x in (a, b)]
    squared = sum(part for part, _ in parts)
    freedom = squared**2 / sum(part**2 / (n - 1) for part, n in parts) if squared else len(a) + len(b) - 2.0
    n = min(len(a), len(b))
    return Gap(statistics.mean(a) - statistics.mean(b), n, squared * n, 0.0, freedom)


def p_equal(gap: Gap, margin: float) -> float:
    """Two one-sided t-tests: the p-value of `|true difference| >= margin`; small means equivalent."""
    if gap.error == 0:
        return 0.0 if abs(gap.difference) <= margin else 1.0
    return float(student.sf((margin - abs(gap.difference)) / gap.error, gap.freedom))


def p_differ(gap: Gap) -> float:
    """Two-sided t-test: the p-value of `true difference = 0`."""
    if gap.error == 0:
        return 0.0 if gap.difference else 1.0
    return float(2 * student.sf(abs(gap.difference) / gap.error, gap.freedom))


def p_greater(gap: Gap) -> float:
    """One-sided t-test: the p-value of `true difference <= 0`."""
    if gap.error == 0:
        return 0.0 if gap.difference > 0 else 1.0
    return float(student.sf(gap.difference / gap.error, gap.freedom))


def p_signed_rank(differences: Sequence[float]) -> float:
    """Wilcoxon's signed-rank test, two-sided: the p-value of `differences lie symmetrically around 0`.

    Exact for any number of pairs, ties included, where the usual normal approximation promises too much for few pairs.
    Differences of 0 are left out, as Wilcoxon did; without any other the p-value is 1.
    """
    ranks = _signed_ranks(differences)
    sizes = np.abs(ranks)
    chance = np.zeros(sizes.sum() + 1)
    chance[0] = 1.0
    for size in sizes:
        chance = (chance + np.roll(chance, size)) / 2
    above = int(ranks[ranks > 0].sum())
    return float(min(1.0, 2 * min(chance[: above + 1].sum(), chance[above:].sum())))


def side(differences: Sequence[float]) -> int:
    """Where the signed ranks of the differences lead: 1 above 0, -1 below, 0 if they balance."""
    return int(np.sign(_signed_ranks(differences).sum()))


def _signed_ranks(differences: Sequence[float]) -> np.ndarray:
    """Twice the rank of each difference's size, with its sign: whole numbers, also where ties share a mean rank."""
    values = np.array([value for value in differences if value])
    return (np.sign(values) * np.rint(2 * rankdata(np.abs(values)))).astype(int)


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


def seeds_needed(gap: Gap, alpha: float, margin: float | None = None, tails: int = 2) -> int | None:
    """Seeds beyond `gap.n` that reach a decision with 80 % power, if mean and spread stay as they are.

    A decision is a significant difference (`tails`-sided) or, given a margin, equivalence. The power is that
    of the shifted central t distribution, an approximation. None when MOST_SEEDS would not do.
    """
    n = np.arange(gap.n + 1, MOST_SEEDS + 1)
    error = np.sqrt(gap.per_seed / n + gap.fixed)
    if not n.size or not error.all():
        return None
    freedom = n - 1.0
    difference = abs(gap.difference)
    decided = student.cdf(difference / error - student.isf(alpha / tails, freedom), freedom)
    if margin is not None:
        critical = student.isf(alpha, freedom)
        near = student.cdf((margin - difference) / error - critical, freedom)
        far = student.cdf((margin + difference) / error - critical, freedom)
        decided = np.maximum(decided, near + far - 1)
    enough = np.flatnonzero(decided >= POWER)
    return int(n[enough[0]]) - gap.n if enough.size else None


def detectable(gap: Gap, alpha: float) -> float:
    """The true difference that the one-sided test of this gap would show with 80 % power, at its spread and seeds."""
    if gap.error == 0:
        return 0.0
    critical = student.isf(alpha, gap.freedom)
    low, high = 0.0, 4 * critical + 4  # power alpha, and nearly 1
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if nct.sf(critical, gap.freedom, middle) < POWER else (low, middle)
    return float(high * gap.error)
