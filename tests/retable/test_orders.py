"""Rows against each other: orderings, equivalences, trends and comparisons from data whose truth is known."""

import numpy as np
import pytest

from retable.cards import PaperCard

CLOSE = [80.0, 80.1, 79.9, 80.05, 79.95]
GPU = {"device": "cuda: NVIDIA H200"}


def orderings(world, *scales):
    return {v.better.axes["depth"]: v for v in world.assess(*scales).orderings}


def measure_ours(world, depth, values, **change):
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=depth, s=s), values, validation=[s] * len(values), **change)


def ask(world, kind, **asked):
    data = world.paper.model_dump()
    data["recipes"][0][kind] = [{"id": "asked", "source": "Table 1"} | asked]
    data["statements"][0]["parts"] = ["depth/asked"]
    world.paper = PaperCard.model_validate(data)


def test_an_ordering_holds_and_is_paired_over_seeds(world):
    world.measure(world.cell("plain", depth=4), [20.0, 40.0, 60.0, 80.0, 50.0])
    measure_ours(world, 4, [21.0, 41.1, 61.0, 80.9, 51.0])
    verdict = orderings(world)[4]
    assert (verdict.state, verdict.test, verdict.n) == ("holds", "paired t", 5)
    assert verdict.difference == pytest.approx(1.0)


def test_an_ordering_is_reversed(world):
    world.measure(world.cell("plain", depth=4), CLOSE)
    measure_ours(world, 4, [70.0, 70.2, 69.8, 70.1, 69.9])
    assert orderings(world)[4].state == "reversed"


def test_orderings_hold_at_any_scale(world):
    world.measure(world.cell("plain", "demo", depth=2), [10.0, 10.1])
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", "demo", depth=2, s=s), [20.0, 20.3])
    assert orderings(world, "demo")[2].state == "holds"


def test_an_ordering_of_equal_constants_is_inconclusive(world):
    world.measure(world.cell("plain", depth=4), [7.79] * 5)
    measure_ours(world, 4, [7.79] * 5)
    assert orderings(world)[4].state == "inconclusive"


def test_an_ordering_is_tested_at_both_looks_that_its_rows_have(world):
    world.measure(world.cell("plain", depth=4), [80.0, 80.2, 79.9, 80.1, 80.0])
    measure_ours(world, 4, [80.5, 80.1, 81.0, 80.9, 80.8])
    one = orderings(world)[4]
    world.stored = {cell.identity: (2,) for cell in world.cells() if cell.axes.get("depth") == 4}
    both = orderings(world)[4]
    assert (both.looks, both.n, len(both.raw)) == ((2, 5), 5, 2)
    assert both.raw[-1] == one.raw[-1]
    assert (both.p_for, both.p_against) == tuple(
        min(1.0, 2 * min(direction)) for direction in zip(*both.raw, strict=True)
    )
    # The other row's second look is missing: only the first one counts.
    world.stored[world.cell("plain", depth=4).identity] = (2,)
    world.records = [r for r in world.records if r.variant != "plain" or r.seed < 4]
    verdict = orderings(world)[4]
    assert (verdict.looks, verdict.n, verdict.raw) == ((2,), 2, both.raw[:1])


def test_a_comparison_is_tested_at_both_looks_once_all_places_have_them(world):
    for depth in (2, 4):
        world.measure(world.cell("plain", depth=depth), CLOSE)
        measure_ours(world, depth, [value + depth for value in CLOSE])
    world.stored = {cell.identity: (3,) for cell in world.cells()}
    found = compared(world)["ours"]
    assert (len(found.first), len(found.differences)) == (6, 10)
    assert found.raw == pytest.approx(2 * 2 * 2**-10)
    world.records = [r for r in world.records if r.variant != "plain" or r.axes["depth"] == 2 or r.seed < 4]
    found = compared(world)["ours"]
    assert (len(found.first), len(found.differences)) == (0, 6)


def test_an_open_ordering_says_what_its_seeds_could_have_shown(world):
    world.measure(world.cell("plain", depth=4), [20.0, 40.0, 60.0, 80.0, 50.0])
    measure_ours(world, 4, [19.0, 42.0, 61.0, 79.0, 50.0])
    verdict = orderings(world)[4]
    assert verdict.state == "inconclusive"
    assert "these 5 would show a difference of 2.67 in 4 of 5 cases" in verdict.note


def test_a_lower_is_better_metric_turns_the_ordering(world):
    data = world.paper.model_dump()
    data["recipes"][0] |= {"metric": "loss", "higher_is_better": False}
    world.paper = PaperCard.model_validate(data)
    world.measure(world.cell("plain", depth=4), [2.0] * 5, metrics={"loss": 2.0, "val_accuracy": 0.0})
    measure_ours(world, 4, [1.0] * 5, metrics={"loss": 1.0, "val_accuracy": 0.0})
    verdict = orderings(world)[4]
    assert (verdict.state, verdict.difference) == ("holds", 1.0)


def test_an_ordering_with_an_open_side_says_which(world):
    world.measure(world.cell("plain", depth=4), CLOSE)
    verdict = orderings(world)[4]
    assert (verdict.state, verdict.note) == ("not run", "Ours: not run")


def compared(world, *scales):
    data = world.paper.model_dump()
    data["recipes"][0]["comparisons"] = [{"reference": "plain", "variants": ["ours", "majority"], "source": "T1"}]
    world.paper = PaperCard.model_validate(data)
    return {found.variant: found for found in world.assess(*scales).comparisons}


def test_a_comparison_pairs_the_seeds_of_all_places(world):
    for depth in (2, 4):
        world.measure(world.cell("plain", depth=depth), CLOSE)
        measure_ours(world, depth, [value + depth for value in CLOSE])
    world.measure(world.cell("majority"), [30.0] * 4)
    found = compared(world)
    assert found["ours"].differences == (2.0,) * 5 + (4.0,) * 5
    assert (found["ours"].state, found["ours"].tests, found["ours"].datasets) == ("above", 2, ("cora",))
    assert found["ours"].p == pytest.approx(2 * 2 * 2**-9)
    assert (found["majority"].state, len(found["majority"].differences)) == ("below", 8)


def test_a_comparison_of_too_few_pairs_says_so(world):
    world.measure(world.cell("plain", depth=2), CLOSE)
    measure_ours(world, 2, [90.0] * 5)
    found = compared(world)
    assert (found["ours"].state, found["ours"].p, found["ours"].tests) == ("inconclusive", 0.125, 1)
    assert "too few unequal pairs: all on one side give p = 0.125" in found["ours"].note
    assert (found["ours"].measured, found["ours"].places) == (1, 2)
    assert (found["majority"].state, found["majority"].mean) == ("not run", None)


def test_what_only_rounding_tells_apart_is_no_difference(world):
    world.measure(world.cell("plain", depth=2), [0.1 + 0.2] * 3)
    measure_ours(world, 2, [0.3] * 3)
    found = compared(world)["ours"]
    assert (found.differences, found.p, found.note) == ((0.0,) * 3, 1.0, "all pairs are equal")


@pytest.mark.parametrize(
    ("reference", "words"), [("plane", "names the variant 'plane'"), ("ours", "tests 'ours' against itself")]
)
def test_a_comparison_of_what_cannot_be_compared_is_refused(world, reference, words):
    data = world.paper.model_dump()
    data["recipes"][0]["comparisons"] = [{"reference": reference, "variants": ["ours"], "source": ""}]
    with pytest.raises(ValueError, match=words):
        PaperCard.model_validate(data)


def test_both_directions_are_adjusted_together(world):
    """At most 5 % of orderings without a difference hold or are reversed, together."""
    random = np.random.default_rng(1)
    trials, wrong = 400, 0
    for _ in range(trials):
        world.records.clear()
        for depth in (2, 4):
            world.measure(world.cell("plain", depth=depth), random.normal(50, 1, 3).tolist())
            measure_ours(world, depth, random.normal(50, 1, 3).tolist())
        wrong += any(verdict.state in ("holds", "reversed") for verdict in world.assess().orderings)
    assert wrong / trials < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_an_ordering_can_name_another_metric(world):
    ask(world, "orderings", better="ours", worse="plain", metric="loss", higher_is_better=False)
    for variant, values in (("plain", [2.0, 2.1, 2.2]), ("ours", [1.0, 1.1, 1.3])):
        for cell in world.cells():
            if cell.variant == variant and cell.axes["depth"] == 4:
                for seed, loss in enumerate(values):
                    metrics = {"accuracy": 50.0, "val_accuracy": 1.0, "loss": loss}
                    world.measure(cell, [50.0], first_seed=seed, metrics=metrics)
    assert orderings(world)[4].state == "holds"
    assert orderings(world)[4].difference == pytest.approx(0.9667, abs=1e-3)


def test_rows_of_different_devices_are_marked_and_not_paired(world):
    world.measure(world.cell("plain", depth=4), CLOSE, environment=GPU)
    measure_ours(world, 4, [value + 0.5 for value in CLOSE], environment={"device": "cpu: A"})
    verdict = orderings(world)[4]
    assert verdict.test == "Welch’s t"
    assert verdict.devices == ("cpu: A", "cuda: NVIDIA H200")


@pytest.mark.parametrize(
    ("first", "second", "test"),
    [
        ({"device": "cpu: A"}, {"device": "cpu: A"}, "paired t"),
        ({"device": "cpu: A"}, {"device": "cpu: B"}, "Welch’s t"),
        ({"device": "cpu: A", "instruction_set": "AVX2"}, {"device": "cpu: B", "instruction_set": "AVX2"}, "paired t"),
        (
            {"device": "cpu: A", "instruction_set": "AVX2"},
            {"device": "cpu: A", "instruction_set": "AVX512"},
            "Welch’s t",
        ),
        ({"device": "cpu: A", "instruction_set": "AVX2"}, {"device": "cpu: A"}, "Welch’s t"),
    ],
)
def test_pairs_need_the_same_kind_of_device_and_instruction_set(world, first, second, test):
    world.measure(world.cell("plain", depth=4), CLOSE, environment=first)
    measure_ours(world, 4, [value + 0.5 for value in CLOSE], environment=second)
    assert orderings(world)[4].test == test


def test_seeds_that_decide_nothing_in_common_are_not_paired(world):
    data = world.paper.model_dump()
    data["recipes"][0]["protocol"]["shared"] = ""
    world.paper = PaperCard.model_validate(data)
    world.measure(world.cell("plain", depth=4), CLOSE)
    measure_ours(world, 4, CLOSE)
    assert orderings(world)[4].test == "Welch’s t"


def mixture(world, variant, depth, values, collapsed):
    for cell in world.cells():
        if cell.variant == variant and cell.axes["depth"] == depth:
            for seed, value in enumerate(values):
                potential = 0.0 if seed in collapsed else -2.0
                metrics = {"accuracy": value, "val_accuracy": 1.0, "uniformity": potential}
                world.measure(cell, [value], first_seed=seed, metrics=metrics)


def test_a_mixture_takes_an_exact_test_of_ranks_and_never_one_of_means(world):
    mixture(world, "plain", 4, [77.0, 30.0, 79.0, 32.0, 77.5], {1, 3})
    measure_ours(world, 4, [80.0, 80.1, 79.9, 80.2, 80.3])
    verdict = orderings(world)[4]
    assert (verdict.state, verdict.test, verdict.gap) == ("holds", "exact rank sum", None)
    assert verdict.p == pytest.approx(4 / 252)
    assert "plain: mixture, no test of means" in verdict.note


def test_a_row_that_collapsed_throughout_is_ordered_as_it_is(world):
    mixture(world, "plain", 4, [30.0, 30.5, 31.0, 30.2, 30.1], set(range(5)))
    measure_ours(world, 4, CLOSE)
    assert (orderings(world)[4].state, orderings(world)[4].test) == ("holds", "paired t")


def equivalence(world, **change):
    ask(world, "equivalences", **({"first": "ours", "second": "plain", "within": 1.0, "reason": "ours"} | change))
    return {v.first.axes["depth"]: v for v in world.assess().equivalences}


@pytest.mark.parametrize(("shift", "state"), [(0.2, "equivalent"), (-3.0, "not equivalent"), (1.0, "inconclusive")])
def test_equivalence_is_a_statement_of_its_own(world, shift, state):
    world.measure(world.cell("plain", depth=4), CLOSE)
    measure_ours(
        world, 4, [value + shift + noise for value, noise in zip(CLOSE, (0.1, -0.1, 0.2, 0, -0.2), strict=True)]
    )
    found = equivalence(world)
    assert found[4].state == state
    assert found[4].difference == pytest.approx(shift)
    assert found[2].state == "not run"


def test_no_difference_shown_is_no_equivalence(world):
    world.measure(world.cell("plain", depth=4), [70.0, 80.0, 75.0])
    measure_ours(world, 4, [75.0, 72.0, 79.0])
    assert orderings(world)[4].state == "inconclusive"
    assert equivalence(world)[4].state == "inconclusive"


def test_a_mixture_is_equivalent_to_nothing(world):
    mixture(world, "plain", 4, [77.0, 30.0, 79.0], {1})
    measure_ours(world, 4, [77.0, 30.0, 79.0])
    verdict = equivalence(world)[4]
    assert (verdict.state, verdict.p) == ("mixture", None)


@pytest.mark.parametrize(("direction", "state"), [("rises", "holds"), ("falls", "reversed")])
def test_a_trend_is_the_slope_of_each_seed(world, direction, state):
    world.measure(world.cell("plain", depth=2), CLOSE)
    world.measure(world.cell("plain", depth=4), [value + 3 + value / 100 for value in CLOSE])
    ask(world, "trends", variant="plain", along="depth", direction=direction)
    (verdict,) = world.assess().trends
    assert (verdict.state, verdict.n) == (state, 5)
    assert verdict.difference == pytest.approx((3 + 0.8) / 2)
    low, high = verdict.interval  # of the slope as it is measured, whichever way the statement goes
    assert 0 < low < verdict.difference < high


@pytest.mark.parametrize(("direction", "state"), [("falls", "holds"), ("rises", "reversed")])
def test_a_trend_through_a_mixture_takes_an_exact_test_of_ranks(world, direction, state):
    world.measure(world.cell("plain", depth=2), [81.0, 82.0, 80.5, 81.2, 80.9, 81.4, 81.1])
    mixture(world, "plain", 4, [70.0, 30.0, 72.0, 31.0, 71.0, 69.0, 73.0], {1, 3})
    ask(world, "trends", variant="plain", along="depth", direction=direction)
    (verdict,) = world.assess().trends
    assert (verdict.state, verdict.test, verdict.gap) == (state, "exact signed rank of slopes", None)
    assert verdict.p == pytest.approx(4 / 2**7)
    assert "plain: mixture, no test of means" in verdict.note
    assert verdict.seeds_to_decide(0.05) == 13


def test_five_seeds_cannot_show_a_trend_through_a_mixture(world):
    world.measure(world.cell("plain", depth=2), CLOSE)
    mixture(world, "plain", 4, [70.0, 30.0, 72.0, 31.0, 71.0], {1, 3})
    ask(world, "trends", variant="plain", along="depth", direction="falls")
    (verdict,) = world.assess().trends
    assert (verdict.state, verdict.p) == ("inconclusive", pytest.approx(4 / 2**5))


def test_a_trend_needs_all_its_places(world):
    world.measure(world.cell("plain", depth=2), CLOSE)
    ask(world, "trends", variant="plain", along="depth", direction="rises", log=True)
    (verdict,) = world.assess().trends
    assert (verdict.state, verdict.note) == ("not run", "plain: not run")


def test_places_whose_rows_ran_on_different_devices_give_no_pairs(world):
    world.measure(world.cell("plain", depth=2), CLOSE, environment=GPU)
    world.measure(world.cell("plain", depth=4), CLOSE)
    for depth in (2, 4):
        measure_ours(world, depth, [value + 1 for value in CLOSE])
    found = compared(world)["ours"]
    assert (len(found.differences), found.measured, found.unpaired) == (5, 2, 1)
    world.records = [record for record in world.records if record.variant != "plain" or record.environment == GPU]
    assert (compared(world)["ours"].state, compared(world)["ours"].differences) == ("no pairs", ())


@pytest.mark.parametrize(
    ("kind", "asked", "words"),
    [
        ("orderings", {"better": "ours", "worse": "plane"}, "'asked' names the variant 'plane'"),
        ("equivalences", {"first": "ours", "second": "plain"}, "within"),
        ("trends", {"variant": "none", "along": "depth", "direction": "rises"}, "'asked' names the variant 'none'"),
    ],
)
def test_statements_of_what_is_not_there_are_refused(world, kind, asked, words):
    with pytest.raises(ValueError, match=words):
        ask(world, kind, **asked)


def test_an_id_is_given_once(world):
    data = world.paper.model_dump()
    data["recipes"][0]["orderings"] *= 2
    with pytest.raises(ValueError, match="the id 'ours-over-plain' is given twice"):
        PaperCard.model_validate(data)
