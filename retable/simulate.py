"""Error rates and power of the verdicts on data whose truth is known: `python -m retable.simulate`.

Draws a paper's number and our seeds with a standard deviation of 1 and prints, in per cent, how often each verdict is
reached: the margin is 1, the true gap 0, at the margin (1) and one beyond it (2). *reproduced* at a gap of 1 or more,
*differs* at a gap of 0, and *holds* without a difference are errors, at a level of 5 %. Every p-value is over two
looks; *second look* goes on to four times the seeds where the first look decided nothing.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retable.significance import (
    ALPHA,
    MeanDifference,
    gap_of_order,
    gap_to_claim,
    p_differ,
    p_equal,
    p_greater,
    p_of_two,
    p_rank_sum,
    signed_rank_tails,
)

SEEDS = (2, 3, 5, 10, 20)
GAPS = (0.0, 1.0, 2.0)
MARGIN = 1.0
RUNS = 5
GROWTH = 4
DIGIT = 0.01

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def _lognormal(random: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    sigma = 0.25
    values = random.lognormal(0.0, sigma, size)
    mean = np.exp(sigma**2 / 2)
    return (values - mean) / (mean * np.sqrt(np.expm1(sigma**2)))


# Expected value 0, standard deviation 1.
SHAPES: dict[str, Draw] = {
    "normal": lambda random, size: random.normal(size=size),
    "lognormal": _lognormal,
    "exponential": lambda random, size: random.exponential(size=size) - 1.0,
}
SECOND = "second look"
# What the paper gives of its deviation and number of runs.
GIVEN = {"both": (True, True), "runs": (False, True), "deviation": (True, False), "neither": (False, False)}


@dataclass(frozen=True)
class Rate:
    """How often a verdict is reached, in per cent of `trials`; `error` says whether it is wrong there."""

    verdict: str
    shape: str
    given: str
    n: int
    gap: float
    percent: float
    trials: int
    error: bool

    @property
    def noise(self) -> float:
        """Three standard errors of a rate at the level of the tests, in per cent."""
        return 300 * float(np.sqrt(ALPHA * (1 - ALPHA) / self.trials))


def simulate(trials: int, seeds: Sequence[int] = SEEDS, shapes: Sequence[str] = tuple(SHAPES)) -> Iterator[Rate]:
    """All rates; the same numbers for the same arguments."""
    for shape in shapes:
        for n in seeds:
            random = np.random.default_rng([n, list(SHAPES).index(shape)])
            yield from _numbers(shape, n, trials, random)
            yield from _orders(shape, n, trials, random)
            yield from _second_look(shape, n, trials, random)
    for n in seeds:
        yield from _mixtures(n, trials, np.random.default_rng(n))


def _numbers(shape: str, n: int, trials: int, random: np.random.Generator) -> Iterator[Rate]:
    draw = SHAPES[shape]
    for gap in GAPS:
        ours = (draw(random, (trials, n)) + gap).tolist()
        found = [gap_to_claim(values, 0.0, None, RUNS, DIGIT) for values in ours]
        # The printed number is what *reproduced* speaks of: it is a constant here.
        equal = [_shown([each], _equal) for each in found]
        yield Rate("reproduced", shape, "-", n, gap, _percent(equal), trials, error=gap >= MARGIN)
        for given, (std, runs) in GIVEN.items():
            # Without a number of runs the paper's number may be of a single one.
            theirs = draw(random, (trials, RUNS))
            means = theirs.mean(axis=1) if runs else theirs[:, 0]
            stds = theirs.std(axis=1, ddof=1) if std else [None] * trials
            # A deviation of unknown runs is taken for the true one.
            stds = [1.0] * trials if std and not runs else stds
            gaps = [
                gap_to_claim(values, float(mean), each, RUNS if runs else None, DIGIT)
                for values, mean, each in zip(ours, means, stds, strict=True)
            ]
            differ = [_shown([each], p_differ) for each in gaps]
            yield Rate("differs", shape, given, n, gap, _percent(differ), trials, error=gap == 0)


def _orders(shape: str, n: int, trials: int, random: np.random.Generator) -> Iterator[Rate]:
    draw = SHAPES[shape]
    for gap in GAPS:
        first, second = draw(random, (trials, n)) + gap, draw(random, (trials, n))
        for given, paired in (("paired", True), ("unpaired", False)):
            either = [_either(a.tolist(), b.tolist(), paired) for a, b in zip(first, second, strict=True)]
            yield Rate("holds or reversed", shape, given, n, gap, _percent(either), trials, error=gap == 0)


def _either(a: list[float], b: list[float], paired: bool) -> bool:
    gap = gap_of_order(dict(enumerate(a)), dict(enumerate(b)), DIGIT, paired)
    return _shown([gap], _ordered)


def _second_look(shape: str, n: int, trials: int, random: np.random.Generator) -> Iterator[Rate]:
    """Verdicts that go on to more seeds where the first look decided nothing, as somebody who hopes for one would."""
    draw = SHAPES[shape]
    for gap in GAPS:
        ours, other = draw(random, (trials, GROWTH * n)) + gap, draw(random, (trials, GROWTH * n))
        theirs = draw(random, (trials, RUNS))
        equal, differ, order = [], [], []
        for values, against, runs in zip(ours.tolist(), other.tolist(), theirs, strict=True):
            looks = [values[:n], values]
            printed = [gap_to_claim(each, 0.0, None, RUNS, DIGIT) for each in looks]
            equal.append(_shown(printed, _equal))
            std = float(runs.std(ddof=1))
            claimed = [gap_to_claim(each, float(runs.mean()), std, RUNS, DIGIT) for each in looks]
            differ.append(_shown(claimed, p_differ))
            pairs = [
                gap_of_order(dict(enumerate(each)), dict(enumerate(against[: len(each)])), DIGIT, paired=True)
                for each in looks
            ]
            order.append(_shown(pairs, _ordered))
        yield Rate("reproduced", shape, SECOND, n, gap, _percent(equal), trials, error=gap >= MARGIN)
        yield Rate("differs", shape, SECOND, n, gap, _percent(differ), trials, error=gap == 0)
        yield Rate("holds or reversed", shape, SECOND, n, gap, _percent(order), trials, error=gap == 0)


def _shown(looks: Sequence[MeanDifference | None], test: Callable[[MeanDifference], float]) -> bool:
    """Whether a verdict is reached at one of the looks, of which each has half of the level."""
    return any(gap is not None and p_of_two(test(gap)) <= ALPHA for gap in looks)


def _equal(gap: MeanDifference) -> float:
    return p_equal(gap, MARGIN)


def _ordered(gap: MeanDifference) -> float:
    """Of an order in either direction."""
    return p_of_two(p_greater(gap), 1 - p_greater(gap))


def _mixtures(n: int, trials: int, random: np.random.Generator) -> Iterator[Rate]:
    """Two rows, or two places of a trend, of one two-humped distribution (75, and 20 in half of the seeds), by the
    exact tests of ranks.
    """
    first, second = np.where(random.random((2, trials, n)) < 0.5, 75.0, 20.0) + random.normal(size=(2, trials, n))
    tests = {
        "holds or reversed": [(p_rank_sum(a, b), p_rank_sum(b, a)) for a, b in zip(first, second, strict=True)],
        "rises or falls": [signed_rank_tails(slopes) for slopes in second - first],
    }
    for verdict, tails in tests.items():
        wrong = [p_of_two(p_of_two(*directions)) <= ALPHA for directions in tails]
        yield Rate(verdict, "two-humped", "ranks", n, 0.0, _percent(wrong), trials, error=True)


def _percent(flags: Sequence[bool]) -> float:
    return 100 * sum(flags) / len(flags)


def table(rates: Sequence[Rate]) -> str:
    """One line a verdict, shape, gap and what the paper gives; a column a number of seeds."""
    seeds = sorted({rate.n for rate in rates})
    lines: dict[tuple, dict[int, Rate]] = {}
    for rate in rates:
        lines.setdefault((rate.verdict, rate.shape, rate.given, rate.gap, rate.error), {})[rate.n] = rate
    text = [f"{'verdict':18} {'data':12} {'given':11} {'gap':>4} {'':6}" + "".join(f"{f'n={n}':>8}" for n in seeds)]
    for (verdict, shape, given, gap, error), found in lines.items():
        head = f"{verdict:18} {shape:12} {given:11} {gap:4.0f} {'error' if error else 'power':6}"
        text.append(head + "".join(f"{found[n].percent:8.1f}" for n in seeds))
    return "\n".join(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m retable.simulate", description="Error rates and power, in per cent."
    )
    parser.add_argument("--trials", type=int, default=2000, help="draws for each rate (default: 2000)")
    trials = parser.parse_args(arguments).trials
    print(table(list(simulate(trials))))


if __name__ == "__main__":
    main()
