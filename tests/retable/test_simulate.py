"""The error rates that docs/statistics.md promises, on few draws; the command prints the same on more."""

import numpy as np
import pytest

from retable.simulate import GAPS, SEEDS, main, simulate, table

TRIALS = 400


@pytest.fixture(scope="module")
def rates():
    return list(simulate(TRIALS, shapes=("normal", "lognormal")))


@pytest.mark.parametrize(("shape", "level"), [("normal", 5), ("two-humped", 5), ("lognormal", 10)])
def test_errors_stay_at_their_level(rates, shape, level):
    errors = [rate for rate in rates if rate.shape == shape and rate.error]
    assert {rate.n for rate in errors} == set(SEEDS)
    for rate in errors:
        assert rate.percent <= level + rate.noise, rate


def test_every_gap_number_of_seeds_and_verdict_is_simulated(rates):
    normal = [rate for rate in rates if rate.shape == "normal"]
    assert {(rate.n, rate.gap) for rate in normal} == {(n, gap) for n in SEEDS for gap in GAPS}
    assert {rate.verdict for rate in normal} == {"reproduced", "differs", "holds or reversed"}
    second = [rate for rate in normal if rate.given == "second look"]
    assert {(rate.n, rate.gap, rate.verdict) for rate in second} == {(r.n, r.gap, r.verdict) for r in normal}


def test_a_second_look_adds_power(rates):
    power = {
        (rate.given, rate.n): rate.percent
        for rate in rates
        if (rate.verdict, rate.shape, rate.gap) == ("holds or reversed", "normal", 1.0)
    }
    assert all(power["second look", n] > power["paired", n] + 5 for n in SEEDS if n < 20)


def test_power_grows_with_the_seeds(rates):
    power = {
        rate.n: rate.percent
        for rate in rates
        if (rate.verdict, rate.shape, rate.given, rate.gap) == ("reproduced", "normal", "-", 0.0)
    }
    assert power[3] < power[5] < power[10] < power[20]
    assert power[20] > 95


def test_the_table_has_a_line_for_each_verdict_and_a_column_for_each_number_of_seeds(capsys):
    main(["--trials", "2"])
    text = capsys.readouterr().out
    assert text.splitlines()[0].split()[-5:] == [f"n={n}" for n in SEEDS]
    assert "exponential" in text
    assert table([]).startswith("verdict")


def test_two_humped_rows_whose_low_seeds_collapsed_end_as_mixtures(world):
    random = np.random.default_rng(0)
    world.claim("plain", 2, 47.5)
    for _ in range(20):
        world.records.clear()
        low = random.random(5) < 0.5
        for seed, collapsed in enumerate(low):
            value = (20.0 if collapsed else 75.0) + random.normal()
            metrics = {"accuracy": value, "val_accuracy": 1.0, "uniformity": 0.0 if collapsed else -2.0}
            world.measure(world.cell("plain", depth=2), [value], first_seed=seed, metrics=metrics)
        (verdict,) = world.assess().values
        if low.all():
            assert verdict.state == "collapsed"
        elif low.any():
            assert verdict.state == "mixture"
            assert verdict.p_differ is None
