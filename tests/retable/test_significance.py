"""Every test is checked on simulated data whose truth is known."""

import itertools
import statistics

import numpy as np
import pytest
from scipy import stats

from retable.significance import (
    MeanDifference,
    average,
    benjamini_hochberg,
    detectable,
    deviation,
    exact_interval,
    gap_of_order,
    gap_of_values,
    gap_to_claim,
    holm,
    interval,
    interval_of_mean,
    least_p_signed_rank,
    look_two,
    look_two_of_ranks,
    look_two_of_share,
    look_two_of_signed_ranks,
    p_beyond,
    p_differ,
    p_equal,
    p_greater,
    p_of_two,
    p_rank_sum,
    p_signed_rank,
    printed_digit,
    share_tail,
    side,
    signed_rank_tails,
    slopes,
    undecidable,
    variance_of,
)

DIGIT = 0.01
TRIALS = 3000
# Three standard errors of a 5 % rate over TRIALS.
SLACK = 3 * (0.05 * 0.95 / TRIALS) ** 0.5


def samples(mean, std, n, seed=0):
    return np.random.default_rng(seed).normal(mean, std, (TRIALS, n)).tolist()


def rate(flags):
    return sum(flags) / TRIALS


def to_claim(values, claimed, std=None, runs=None):
    gap = gap_to_claim(values, claimed, std, runs, DIGIT)
    assert gap is not None
    return gap


def of_order(better, worse, paired=True):
    gap = gap_of_order(better, worse, DIGIT, paired)
    assert gap is not None
    return gap


@pytest.mark.parametrize("n", [2, 5, 20])
@pytest.mark.parametrize(("runs", "gives_std", "gives_runs"), [(5, True, True), (5, False, True), (1, False, False)])
def test_a_true_claim_is_called_different_in_five_percent(n, runs, gives_std, gives_runs):
    """The paper's mean is itself one of `runs` trainings, whatever of it the paper prints."""
    published = np.array(samples(70, 1, max(runs, 2), seed=1))[:, :runs]
    std = published.std(axis=1, ddof=1) if gives_std else [None] * TRIALS
    gaps = [
        to_claim(x, float(y.mean()), s, runs if gives_runs else None)
        for x, y, s in zip(samples(70, 1, n, seed=2), published, std, strict=True)
    ]
    wrong = rate(p_differ(gap) <= 0.05 for gap in gaps)
    assert wrong < 0.05 + SLACK
    if not gives_std:
        assert wrong > 0.05 - SLACK


def test_a_claim_of_known_deviation_and_unknown_runs_counts_as_one_run():
    gap = to_claim([70.0, 72.0, 71.0], 68.0, 2.0, None)
    assert (gap.fixed, gap.both) == (4.0, 2.0)
    assert p_differ(gap) == pytest.approx(2 * stats.t.sf(3.0 / (1 / 3 + 4) ** 0.5, 2))
    wrong = rate(
        p_differ(to_claim(x, float(y[0]), 4.0, None)) <= 0.05
        for x, y in zip(samples(70, 1, 5, seed=2), samples(70, 4, 1, seed=1), strict=True)
    )
    assert wrong < 0.05 + SLACK


def test_a_claim_without_deviation_has_the_error_of_our_spread():
    values = [70.0, 72.0, 71.0]
    assert p_differ(to_claim(values, 68.0, None, 5)) == pytest.approx(2 * stats.t.sf(3.0 / (1 / 3 + 1 / 5) ** 0.5, 2))
    assert p_differ(to_claim(values, 68.0)) == pytest.approx(2 * stats.t.sf(3.0 / (1 / 3 + 1) ** 0.5, 2))


def test_equivalence_asks_of_the_printed_number_with_our_error_alone():
    values = [71.0, 72.5, 70.2, 71.9]
    assert p_equal(to_claim(values, 70.0, 5.0, 3), 2.0) == p_equal(to_claim(values, 70.0), 2.0)


@pytest.mark.parametrize(("n", "m", "spread"), [(2, 20, 1), (3, 5, 4), (5, 5, 1), (20, 2, 0.25)])
def test_welchs_test_keeps_its_level_at_any_number_of_seeds(n, m, spread):
    pairs = zip(samples(0, 1, n, seed=1), samples(0, spread, m, seed=2), strict=True)
    gaps = [of_order(dict(enumerate(a)), dict(enumerate(b)), paired=False) for a, b in pairs]
    assert rate(p_greater(gap) <= 0.05 for gap in gaps) < 0.05 + SLACK


@pytest.mark.parametrize("true_difference", [1.0, -1.0, 1.5])
def test_equivalence_is_declared_at_or_beyond_the_margin_in_at_most_five_percent(true_difference):
    wrong = rate(p_equal(to_claim(x, 70.0), 1.0) <= 0.05 for x in samples(70 + true_difference, 0.3, 5))
    assert wrong < 0.05 + SLACK
    if abs(true_difference) == 1:
        assert wrong > 0.05 - SLACK


def test_equivalence_is_found_when_it_is_there():
    found = rate(p_equal(to_claim(x, 70.0), 1.0) <= 0.05 for x in samples(70.1, 0.3, 5))
    assert found > 0.95


@pytest.mark.parametrize("paired", [True, False])
def test_order_errs_five_percent_of_the_time_and_pairing_helps_shared_splits(paired):
    split_effect = np.random.default_rng(3).normal(0, 5, (TRIALS, 5))
    first = (np.array(samples(0, 1, 5, seed=4)) + split_effect).tolist()
    second = (np.array(samples(0, 1, 5, seed=5)) + split_effect).tolist()
    shift = 0 if paired else 10
    gaps = [
        of_order(dict(enumerate(a)), dict(enumerate(b, start=shift)), paired)
        for a, b in zip(first, second, strict=True)
    ]
    wrong = rate(p_greater(gap) <= 0.05 for gap in gaps)
    if paired:
        assert abs(wrong - 0.05) < SLACK
    else:
        assert wrong < 0.01


def test_p_values_are_scipys():
    ours, other = [71.0, 72.5, 70.2, 71.9], [69.0, 70.5, 68.2, 70.0]
    one = to_claim(ours, 70.0)
    below = stats.ttest_1samp(ours, 70.0 + 2, alternative="less").pvalue
    above = stats.ttest_1samp(ours, 70.0 - 2, alternative="greater").pvalue
    assert p_equal(one, 2.0) == pytest.approx(max(below, above))
    assert p_beyond(one, 0.5) == pytest.approx(stats.ttest_1samp(ours, 70.5, alternative="greater").pvalue)
    statistic = stats.ttest_ind(ours, other, equal_var=False).statistic
    welch = to_claim(ours, float(np.mean(other)), float(np.std(other, ddof=1)), 4)
    assert p_differ(welch) == pytest.approx(2 * stats.t.sf(statistic, 3))
    paired = of_order(dict(enumerate(ours)), dict(enumerate(other)))
    assert p_greater(paired) == pytest.approx(stats.ttest_rel(ours, other, alternative="greater").pvalue)
    apart = of_order(dict(enumerate(ours)), dict(enumerate(other)), paired=False)
    assert p_greater(apart) == pytest.approx(stats.t.sf(statistic, 3))


def test_equal_values_have_the_metrics_resolution_as_spread():
    gap = to_claim([7.785] * 5, 7.79)
    assert gap.error == pytest.approx(DIGIT / 5**0.5)
    assert p_differ(gap) > 0.05
    assert variance_of([80.0] * 3, 0.5) == 0.25
    assert variance_of([80.0, 84.0], 0.5) == 8.0


def test_two_equal_values_are_refused():
    assert gap_to_claim([7.79] * 2, 7.79, None, None, DIGIT) is None
    assert gap_to_claim([0.1 + 0.2, 0.3], 1.0, None, None, DIGIT) is None
    two = {0: 1.0, 1: 2.0}
    assert gap_of_order({0: 3.0, 1: 4.0}, two, DIGIT, paired=True) is None
    assert gap_of_order({0: 3.0, 1: 3.0}, two, DIGIT, paired=False) is None
    assert gap_of_values([1.0], DIGIT) is None


@pytest.mark.parametrize("step", [0.2, 0.5, 1.0])
def test_rounded_metrics_do_not_decide_an_order_too_often(step):
    """Values in steps of a test item: equal differences are common, and no true difference is there."""
    for n in (2, 3):
        rounded = [(np.round(np.array(x) / step) * step).tolist() for x in samples(0, 1, 2 * n, seed=8)]
        gaps = [gap_of_order(dict(enumerate(x[:n])), dict(enumerate(x[n:])), step, True) for x in rounded]
        assert rate(gap is not None and p_greater(gap) <= 0.05 for gap in gaps) < 0.05 + SLACK


def test_the_printed_digit_is_that_of_the_number():
    assert printed_digit(7.79) == pytest.approx(0.01)
    assert printed_digit(83.0) == pytest.approx(0.1)
    assert printed_digit(1304912.0, "count") == 1.0


def test_no_order_between_equal_constants():
    constant = dict.fromkeys(range(3), 7.79)
    assert p_greater(of_order(constant, constant)) == 0.5
    assert p_greater(of_order(dict.fromkeys(range(3), 8.0), constant)) < 0.001


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_holm_bounds_the_family_wise_error():
    families = np.random.default_rng(6).uniform(size=(TRIALS, 10)).tolist()
    assert rate(min(holm(family)) <= 0.05 for family in families) < 0.05 + SLACK


def test_benjamini_hochberg_is_scipys_and_bounds_the_false_discoveries():
    row = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert benjamini_hochberg(row) == pytest.approx(stats.false_discovery_control(row).tolist())
    assert benjamini_hochberg([]) == []
    null = np.random.default_rng(6).uniform(size=(TRIALS, 10)).tolist()
    assert rate(min(benjamini_hochberg(family)) <= 0.05 for family in null) < 0.05 + SLACK


def test_a_second_look_doubles_the_smaller_p():
    assert p_of_two(0.03, 0.2) == 0.06
    assert p_of_two(0.9, 0.8) == 1.0
    assert p_of_two(0.03) == 0.06


def test_a_look_two_of_means_reaches_the_promised_power():
    """It has half of the level."""
    gap = MeanDifference(difference=1.0, n=3, per_seed=2.0**2, freedom=2.0)
    seeds = look_two(gap, 0.05)
    power = rate(stats.ttest_1samp(x, 0.0).pvalue <= 0.025 for x in samples(1.0, 2.0, seeds))
    assert 0.75 < power < 0.87


def test_a_look_two_of_equivalence_reaches_the_promised_power():
    gap = MeanDifference(difference=0.0, n=2, per_seed=1.0, freedom=1.0)
    seeds = look_two(gap, 0.05, margin=1.0)
    power = rate(p_equal(to_claim(x, 0.0), 1.0) <= 0.025 for x in samples(0.0, 1.0, seeds))
    assert 0.75 < power < 0.9


def test_a_look_two_of_ranks_reaches_the_promised_power():
    first, second = [3.0, 1.0, 4.0, 5.0, 9.0], [2.0, 6.0, 0.0, 1.5, 1.2]
    seeds = look_two_of_ranks(first, second, 0.05)
    random = np.random.default_rng(3)
    drawn = [(random.choice(first, seeds), random.choice(second, seeds)) for _ in range(300)]
    power = np.mean([2 * min(p_rank_sum(a, b), p_rank_sum(b, a)) <= 0.025 for a, b in drawn])
    assert 0.7 < power < 0.92
    assert look_two_of_ranks([1.0, 2.0], [1.0, 2.0], 0.05) is None


def test_a_look_two_of_signed_ranks_reaches_the_promised_power():
    values = [3.0, -1.0, 4.0, 2.0, -0.5, 1.5]
    seeds = look_two_of_signed_ranks(values, 0.05)
    random = np.random.default_rng(5)
    drawn = [random.choice(values, seeds) for _ in range(300)]
    power = np.mean([p_signed_rank(x) <= 0.025 for x in drawn])
    assert 0.7 < power < 0.95
    assert look_two_of_signed_ranks([1.0, -1.0], 0.05) is None
    assert look_two_of_signed_ranks([1.0, 2.0, 3.0], 0.05) == 13


def test_the_tails_of_the_signed_rank_test_are_scipy_s():
    values = [3.1, -1.2, 4.3, 2.4, -0.5, 1.6]
    expected = [stats.wilcoxon(values, alternative=side, method="exact").pvalue for side in ("greater", "less")]
    assert signed_rank_tails(values) == pytest.approx(expected)
    assert signed_rank_tails([0.0, 0.0]) == (1.0, 1.0)


@pytest.mark.parametrize("hits", [4, 1])
def test_a_look_two_of_a_share_reaches_the_promised_power(hits):
    seeds = look_two_of_share(hits, 5, 0.05)
    drawn = np.random.default_rng(4).binomial(seeds, hits / 5, 2000).tolist()
    power = np.mean(
        [2 * min(stats.binom.sf(x - 1, seeds, 0.5), stats.binom.cdf(x, seeds, 0.5)) <= 0.025 for x in drawn]
    )
    assert 0.78 < power < 0.95
    assert look_two_of_share(1, 2, 0.05) is None


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (5, 0.05), (5, 0.0125)])
def test_a_detectable_difference_is_found_four_times_in_five(n, alpha):
    least = detectable(MeanDifference(difference=0.1, n=n, per_seed=2.0**2, freedom=n - 1.0), alpha)
    worse = dict.fromkeys(range(n), 0.0)
    power = rate(p_greater(of_order(dict(enumerate(values)), worse)) <= alpha for values in samples(least, 2.0, n))
    assert power == pytest.approx(0.8, abs=0.03)


def test_seeds_cannot_mend_the_papers_own_uncertainty():
    assert look_two(MeanDifference(1.5, 5, 1.0, freedom=4.0, fixed=4.0), 0.05, margin=1.0) is None
    assert look_two(MeanDifference(0.5, 5, 1.0, freedom=4.0, fixed=4.0), 0.05, margin=1.0) is not None


def test_what_lies_outside_the_margin_and_inside_the_papers_error_cannot_be_decided():
    outside = MeanDifference(3.0, 10, 1.0, freedom=9.0, fixed=4.0)
    assert undecidable([outside], margin=1.0)
    assert not undecidable([MeanDifference(3.0, 10, 1.0, freedom=9.0, fixed=1.0)], margin=1.0)
    assert not undecidable([MeanDifference(1.1, 10, 1.0, freedom=9.0, fixed=4.0)], margin=1.0)


def test_slopes_are_those_of_least_squares():
    values = {2: {0: 1.0, 1: 5.0}, 4: {0: 2.0, 1: 4.0}, 8: {0: 9.0, 1: 1.0, 2: 7.0}}
    found = slopes(values)
    assert sorted(found) == [0, 1]
    assert found[0] == pytest.approx(np.polyfit([2, 4, 8], [1.0, 2.0, 9.0], 1)[0])


@pytest.mark.parametrize("ties", [False, True])
def test_the_rank_sum_test_is_exact_with_and_without_ties(ties):
    rng = np.random.default_rng(9)
    for _ in range(10):
        a, b = rng.normal(0.5, 1, 4), rng.normal(0, 1, 5)
        if ties:
            a, b = np.round(a), np.round(b)
        everything = np.concatenate([a, b])
        ranks = stats.rankdata(everything)
        sums = [ranks[list(chosen)].sum() for chosen in itertools.combinations(range(9), 4)]
        expected = np.mean([total >= ranks[:4].sum() - 1e-9 for total in sums])
        assert p_rank_sum(a.tolist(), b.tolist()) == pytest.approx(expected)


def test_the_exact_interval_of_a_share_is_clopper_and_pearsons():
    low, high = exact_interval(2, 5)
    expected = stats.binomtest(2, 5).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert exact_interval(0, 5)[0] == 0.0
    assert exact_interval(5, 5)[1] == 1.0


def test_deviation_is_the_sample_deviation():
    assert deviation([1.0, 3.0]) == pytest.approx(2**0.5)
    assert deviation([1.0]) is None
    assert deviation([0.1 + 0.2] * 3) == 0


@pytest.mark.parametrize("n", [3, 8, 25])
def test_the_signed_rank_test_is_scipys_exact_one_where_there_are_no_ties(n):
    for row in samples(0.3, 1.0, n)[:20]:
        assert p_signed_rank(row) == pytest.approx(stats.wilcoxon(row, method="exact").pvalue, abs=1e-12)


def test_the_signed_rank_test_counts_tied_and_zero_differences_exactly():
    differences = [0.5, 0.5, -0.5, 1.0, 1.0, 0.0, 2.0]
    values = np.array([d for d in differences if d])
    ranks = stats.rankdata(np.abs(values))
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in itertools.product((0, 1), repeat=6)]
    above = ranks[values > 0].sum()
    tails = sum(s >= above for s in sums), sum(s <= above for s in sums)
    assert p_signed_rank(differences) == pytest.approx(2 * min(tails) / 64)


def test_five_pairs_cannot_decide_and_six_can():
    assert p_signed_rank([1.0] * 5) == least_p_signed_rank(5) == 0.0625
    assert p_signed_rank([1.0] * 6) == least_p_signed_rank(6) == 0.03125
    assert p_signed_rank([]) == p_signed_rank([0.0, 0.0]) == least_p_signed_rank(0) == 1.0


def test_the_signed_rank_test_keeps_its_rate_of_error_and_tells_the_side():
    assert rate(p_signed_rank(row) <= 0.05 for row in samples(0.0, 1.0, 10)) <= 0.05 + SLACK
    assert rate(p_signed_rank(row) <= 0.05 for row in samples(1.5, 1.0, 10)) > 0.9
    assert (side([3.0, -1.0]), side([-3.0, 1.0]), side([1.0, -1.0]), side([])) == (1, -1, 0, 0)


def test_means_and_deviations_are_those_of_exact_arithmetic_to_the_last_digits():
    for row in samples(50.0, 3.0, 7)[:50]:
        assert average(row) == pytest.approx(statistics.mean(row), rel=1e-15)
        assert deviation(row) == pytest.approx(statistics.stdev(row), rel=1e-13)
    assert average([0.1] * 3) == 0.1
    assert deviation([1e9 + 1, 1e9 + 2, 1e9 + 3]) == 1.0


def test_an_interval_covers_in_95_of_100_cases_and_is_students():
    found = [interval_of_mean(list(row)) for row in samples(2.0, 1.0, 5)]
    assert abs(rate(low <= 2.0 <= high for low, high in found) - 0.95) <= SLACK
    low, high = interval_of_mean([1.0, 2.0, 4.0])
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 2, np.mean([1, 2, 4]), stats.sem([1, 2, 4])))
    assert interval_of_mean([1.0]) is None


def test_the_interval_of_a_difference_leaves_out_0_just_where_its_test_is_significant():
    for row in samples(0.8, 1.0, 6)[:100]:
        gap = gap_of_values(list(row), 1e-9)
        low, high = interval(gap)
        assert (low > 0 or high < 0) == (p_differ(gap) < 0.05)


def test_tails_of_a_share_and_the_distributions_behind_the_looks_are_scipys():
    for hits, n in ((0, 5), (3, 5), (5, 5), (17, 40)):
        expected = stats.binom.sf(hits - 1, n, 0.5), stats.binom.cdf(hits, n, 0.5)
        assert share_tail(hits, n) == pytest.approx(expected, rel=1e-12)
    gap = MeanDifference(0.0, 5, 2.0, 4.0)
    critical = stats.t.isf(0.0125, 4)
    assert stats.nct.sf(critical, 4, detectable(gap, 0.0125) / gap.error) == pytest.approx(0.8, abs=1e-4)
