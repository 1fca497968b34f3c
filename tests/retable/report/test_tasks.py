"""All methods on one data set: what is ranked with what, and the differences."""

import re
import statistics

import pytest

from retable.probed import Probe
from retable.report.part import Result
from retable.report.tasks import PAIRS, apart, blocks, differ, pairs


def row(method, *values, **change):
    known = {
        "paper": "a", "recipe": "r", "title": "R", "dataset": "cora", "dataset_title": "Cora", "task": "nodes",
        "scale": "full", "protocol": "last v1", "about": "Last epoch.", "split": "public", "metric": "accuracy",
        "unit": "%", "higher_is_better": True, "spread": "seeds", "shared": True, "method": method, "setting": "",
        "control": False, "state": "measured", "note": "", "cell": method, "command": "run",
        "mean": statistics.mean(values) if values else None, "seeds": dict(enumerate(values)),
        "devices": {0: "cpu"},
    }  # fmt: skip
    return Result.model_validate(known | change)


def test_rows_are_ranked_within_one_scale_and_protocol_and_controls_stand_among_them():
    rows = [
        row("low", 50.0, 52.0),
        row("high", 80.0, 82.0, paper="b"),
        row("raw features", 60.0, 62.0, control=True),
        row("other", 99.0, 98.0, protocol="probe v2"),
        row("small", 20.0, 21.0, scale="reduced"),
        row("open"),
    ]
    found = blocks(rows)
    assert list(found) == ["full", "reduced"]
    ranked, unranked = found["full"]
    assert [each.method for each in ranked.rows] == ["high", "raw features", "low"]
    assert [ranked.place(each) for each in ranked.rows] == [1, 2, 3]
    assert (ranked.ranked, unranked.ranked) == (True, False)
    assert unranked.apart == "Not ranked with the above: the protocol is “probe v2”, not “last v1”."
    (small,) = found["reduced"]
    assert small.ranked
    assert (ranked.one_recipe, small.one_recipe) == (False, True)
    (two,) = blocks([row("one", 50.0), row("other", 60.0, title="S")])["full"]
    assert not two.one_recipe


def test_the_common_probe_ranks_what_it_scored_and_only_runs_that_still_stand():
    rows = [
        row("a", 80.0, 82.0, protocol="own"),
        row("b", 60.0, 61.0, paper="b", protocol="other", higher_is_better=False),
        row("c", 70.0, split="random"),
        row("d", 75.0),
    ]
    lines = [
        ("a", 0, 80.0, 50.0),
        ("a", 1, 82.0, 52.0),
        ("b", 0, 60.0, 55.0),
        ("b", 1, 99.0, 99.0),
        ("c", 0, 70.0, 9.0),
    ]
    probes = [
        Probe(cell=cell, seed=seed, dataset="cora", value=value, accuracy=accuracy, features=4)
        for cell, seed, value, accuracy in [*lines, ("gone", 0, 1.0, 99.0)]
    ]
    shared, other = (block for block in blocks(rows, probes)["full"] if block.common)
    assert [(each.method, each.mean, each.seeds) for each in shared.rows] == [
        ("b", 55.0, {0: 55.0}),
        ("a", 51.0, {0: 50.0, 1: 52.0}),
    ]
    assert shared.rows[0].command == "retable probe --scale full --datasets cora"
    assert [each.method for each in other.rows] == ["c"]


def test_less_is_better_where_the_recipe_says_so_and_equal_means_share_a_rank():
    rows = [row(name, x, x + 1, higher_is_better=False) for name, x in (("a", 5.0), ("b", 3.0), ("c", 3.0))]
    (block,) = blocks(rows)["full"]
    assert [(each.method, block.place(each)) for each in block.rows] == [("b", 1), ("c", 1), ("a", 3)]


def test_a_block_apart_says_all_that_differs():
    text = apart(row("x", 1.0, split="random", metric="f1", unit=""), row("y", 1.0))
    assert "the split is “random”, not “public”" in text
    assert "the metric is f1, not accuracy (%)" in text


def test_equal_seeds_are_pairs_only_within_a_recipe_that_shares_them():
    a, b = row("a", 80.0, 90.0, 70.0), row("b", 79.0, 88.5, 69.5)
    difference, low, high, test = differ(a, b)
    assert (round(difference, 9), test) == (1.0, "paired")
    assert low < 1.0 < high
    assert high - low == pytest.approx(2 * 4.302653 * 0.5 / 3**0.5, rel=1e-5)  # t(2); the deviation of 1, 1.5, 0.5
    for other in (row("b", 79.0, 88.5, 69.5, paper="b"), row("b", 79.0, 88.5, 69.5, devices={0: "cuda"})):
        *_, wide_low, wide_high, test = (None, *differ(a, other))
        assert test == "Welch"
        assert wide_high - wide_low > 10 * (high - low)


def test_one_seed_has_no_interval():
    assert differ(row("a", 1.0), row("b", 2.0, 3.0)) is None


def test_the_table_of_differences_has_each_pair_once_and_escapes():
    (block,) = blocks([row("<i>", 50.0, 52.0, 51.0), row("b", 80.0, 82.5, 81.5), row("c", 10.0, 13.0, 12.0)])["full"]
    text = str(pairs(block))
    assert len(re.findall(r"\[", text)) == 3
    assert "<i>" not in text
    assert "<b>+30.33</b>" in text


def test_a_table_that_nobody_would_read_is_not_made():
    (block,) = blocks([row(f"m{i}", float(i), i + 1.0) for i in range(PAIRS + 1)])["full"]
    assert pairs(block) == ""
