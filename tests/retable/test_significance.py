"""Every test is checked on simulated data whose truth is known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from retable.significance import (
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

TRIALS = 3000
# Three standard errors of a 5 % rate over TRIALS.
SLACK = 3 * (0.05 * 0.95 / TRIALS) ** 0.5


def samples(mean, std, n, seed=0):
    return np.random.default_rng(seed).normal(mean, std, (TRIALS, n)).tolist()


def rate(flags):
    return sum(flags) / TRIALS


def test_difference_against_an_exact_claim_errs_five_percent_of_the_time():
    wrong = rate(p_differ(gap_to_claim(x, 70.0, None, None)) <= 0.05 for x in samples(70, 2, 5))
    assert abs(wrong - 0.05) < SLACK


def test_welch_against_a_claim_with_its_own_spread_errs_five_percent_of_the_time():
    published = samples(70, 4, 5, seed=1)
    ours = samples(70, 1, 5, seed=2)
    gaps = [
        gap_to_claim(x, float(np.mean(y)), float(np.std(y, ddof=1)), 5) for x, y in zip(ours, published, strict=True)
    ]
    wrong = rate(p_differ(gap) <= 0.05 for gap in gaps)
    assert 0.03 < wrong < 0.05 + SLACK


@pytest.mark.parametrize("true_difference", [1.0, -1.0, 1.5])
def test_equivalence_is_declared_at_or_beyond_the_margin_in_at_most_five_percent(true_difference):
    wrong = rate(p_equal(gap_to_claim(x, 70.0, None, None), 1.0) <= 0.05 for x in samples(70 + true_difference, 0.3, 5))
    assert wrong < 0.05 + SLACK
    if abs(true_difference) == 1:
        assert wrong > 0.05 - SLACK


def test_equivalence_is_found_when_it_is_there():
    found = rate(p_equal(gap_to_claim(x, 70.0, None, None), 1.0) <= 0.05 for x in samples(70.1, 0.3, 5))
    assert found > 0.95


@pytest.mark.parametrize("paired", [True, False])
def test_order_errs_five_percent_of_the_time_and_pairing_helps_shared_splits(paired):
    split_effect = np.random.default_rng(3).normal(0, 5, (TRIALS, 5))
    first = (np.array(samples(0, 1, 5, seed=4)) + split_effect).tolist()
    second = (np.array(samples(0, 1, 5, seed=5)) + split_effect).tolist()
    shift = 0 if paired else 10
    gaps = [
        gap_of_order(dict(enumerate(a)), dict(enumerate(b, start=shift))) for a, b in zip(first, second, strict=True)
    ]
    wrong = rate(p_greater(gap) <= 0.05 for gap in gaps)
    if paired:
        assert abs(wrong - 0.05) < SLACK
    else:
        assert wrong < 0.01


def test_p_values_are_scipys():
    ours, other = [71.0, 72.5, 70.2, 71.9], [69.0, 70.5, 68.2, 70.0]
    one = gap_to_claim(ours, 70.0, None, None)
    assert p_differ(one) == pytest.approx(stats.ttest_1samp(ours, 70.0).pvalue)
    below = stats.ttest_1samp(ours, 70.0 + 2, alternative="less").pvalue
    above = stats.ttest_1samp(ours, 70.0 - 2, alternative="greater").pvalue
    assert p_equal(one, 2.0) == pytest.approx(max(below, above))
    welch = gap_to_claim(ours, float(np.mean(other)), float(np.std(other, ddof=1)), 4)
    assert p_differ(welch) == pytest.approx(stats.ttest_ind(ours, other, equal_var=False).pvalue)
    paired = gap_of_order(dict(enumerate(ours)), dict(enumerate(other)))
    assert p_greater(paired) == pytest.approx(stats.ttest_rel(ours, other, alternative="greater").pvalue)
    apart = gap_of_order(dict(enumerate(ours)), dict(enumerate(other, start=9)))
    expected = stats.ttest_ind(ours, other, equal_var=False, alternative="greater").pvalue
    assert p_greater(apart) == pytest.approx(expected)


@pytest.mark.parametrize(("claimed", "equal", "differ"), [(7.79, 0.0, 1.0), (8.5, 0.0, 0.0), (9.0, 1.0, 0.0)])
def test_without_spread_the_margin_decides(claimed, equal, differ):
    gap = gap_to_claim([7.79] * 5, claimed, None, None)
    assert gap.error == 0
    assert p_equal(gap, 1.0) == equal
    assert p_differ(gap) == differ


def test_no_order_between_equal_constants():
    constant = dict.fromkeys(range(3), 7.79)
    assert p_greater(gap_of_order(constant, constant)) == 1.0
    assert p_greater(gap_of_order(dict.fromkeys(range(3), 8.0), constant)) == 0.0
    assert p_greater(gap_of_order(dict.fromkeys(range(4), 8.0), constant)) == 0.0


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_holm_bounds_the_family_wise_error():
    families = np.random.default_rng(6).uniform(size=(TRIALS, 10)).tolist()
    assert rate(min(holm(family)) <= 0.05 for family in families) < 0.05 + SLACK


def test_seeds_needed_reaches_the_promised_power():
    gap = Gap(difference=1.0, n=3, per_seed=2.0**2, fixed=0.0, freedom=2.0)
    more = seeds_needed(gap, 0.05)
    assert more is not None
    power = rate(p_differ(gap_to_claim(x, 0.0, None, None)) <= 0.05 for x in samples(1.0, 2.0, 3 + more))
    assert 0.75 < power < 0.87


def test_seeds_needed_for_equivalence_reaches_the_promised_power():
    gap = Gap(difference=0.0, n=2, per_seed=1.0, fixed=0.0, freedom=1.0)
    more = seeds_needed(gap, 0.05, margin=1.0)
    assert more is not None
    power = rate(p_equal(gap_to_claim(x, 0.0, None, None), 1.0) <= 0.05 for x in samples(0.0, 1.0, 2 + more))
    assert 0.75 < power < 0.9


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (5, 0.05), (5, 0.0125)])
def test_a_detectable_difference_is_found_four_times_in_five(n, alpha):
    least = detectable(Gap(difference=0.1, n=n, per_seed=2.0**2, fixed=0.0, freedom=n - 1.0), alpha)
    worse = dict.fromkeys(range(n), 0.0)
    power = rate(p_greater(gap_of_order(dict(enumerate(values)), worse)) <= alpha for values in samples(least, 2.0, n))
    assert power == pytest.approx(0.8, abs=0.03)


def test_without_spread_any_difference_is_found():
    assert detectable(Gap(difference=0.0, n=3, per_seed=0.0, fixed=0.0, freedom=2.0), 0.05) == 0


def test_seeds_cannot_mend_the_papers_own_uncertainty():
    assert seeds_needed(Gap(0.5, 5, 1.0, fixed=4.0, freedom=5.0), 0.05, margin=1.0) is None


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
