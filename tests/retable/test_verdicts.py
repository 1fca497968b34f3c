"""Claims against rows: each verdict from data whose truth is known."""

from pathlib import Path

import numpy as np
import pytest

from retable.cards import SCALES, CardError, PaperCard, load_claims, load_datasets, load_papers
from retable.currency import Currency
from retable.plan import plan
from retable.verdicts import VALUE_STATES, assess, check_claims

ROOT = Path(__file__).resolve().parents[2]
CLOSE = [80.0, 80.1, 79.9, 80.05, 79.95]


def only_value(world, *scales):
    (found,) = world.assess(*scales).values
    return found


def orderings(world, *scales):
    return {v.better.axes["depth"]: v for v in world.assess(*scales).orderings}


def measure_ours(world, depth, values, **change):
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=depth, s=s), values, validation=[s] * len(values), **change)


def test_a_close_mean_is_reproduced(world):
    world.claim("plain", 2, 80.1)
    world.measure(world.cell("plain", depth=2), CLOSE)
    verdict = only_value(world)
    assert verdict.state == "reproduced"
    assert (verdict.n, verdict.mean, verdict.margin) == (5, pytest.approx(80.0), 1.0)
    assert verdict.difference == pytest.approx(-0.1)


def test_a_far_mean_differs_with_its_direction(world):
    world.claim("plain", 2, 68.75)
    world.measure(world.cell("plain", depth=2), [54.0, 50.0, 58.0, 55.0, 53.0])
    verdict = only_value(world)
    assert verdict.state == "differs"
    assert verdict.difference == pytest.approx(-14.75)


def test_equivalent_and_different_at_once_is_reproduced_with_the_difference_named(world):
    world.claim("plain", 2, 80.4)
    world.measure(world.cell("plain", depth=2), CLOSE)
    verdict = only_value(world)
    assert verdict.state == "reproduced"
    assert verdict.note == "inside the margin, yet 0.4 lower"


def test_a_wide_spread_is_inconclusive_and_says_how_many_seeds_would_settle_it(world):
    world.claim("plain", 2, 80.0)
    world.measure(world.cell("plain", depth=2), [78.0, 82.0, 80.5, 79.0, 80.0])
    verdict = only_value(world)
    assert verdict.state == "inconclusive"
    assert "more seeds would settle it" in verdict.note


def test_one_seed_is_inconclusive(world):
    world.claim("plain", 2, 80.0)
    world.measure(world.cell("plain", depth=2), [80.0])
    verdict = only_value(world)
    assert (verdict.state, verdict.std) == ("inconclusive", None)
    assert "one seed has no spread" in verdict.note


@pytest.mark.parametrize(("value", "state"), [(7.79, "reproduced"), (8.79, "reproduced"), (8.8, "differs")])
def test_without_spread_the_margin_decides(world, value, state):
    world.claim("plain", 2, 7.79)
    world.measure(world.cell("plain", depth=2), [value] * 5)
    assert only_value(world).state == state


def test_the_papers_own_deviation_widens_the_margin(world):
    world.claim("plain", 2, 82.0, std=4.0, runs=100)
    world.measure(world.cell("plain", depth=2), CLOSE)
    verdict = only_value(world)
    assert (verdict.state, verdict.margin) == ("reproduced", 4.0)


def test_other_scales_are_not_comparable_but_keep_their_number(world):
    world.claim("plain", 2, 80.0)
    world.measure(world.cell("plain", "demo", depth=2), [10.0, 11.0])
    verdict = only_value(world, "demo")
    assert (verdict.state, verdict.mean) == ("not comparable", 10.5)


def test_a_remembered_claim_is_no_measure(world):
    world.claim("plain", 2, 80.0, evidence="memory")
    world.measure(world.cell("plain", depth=2), CLOSE)
    assert only_value(world).state == "not comparable"


def test_a_missing_metric_is_a_failure(world):
    world.claim("plain", 2, 80.0)
    world.measure(world.cell("plain", depth=2), CLOSE, metrics={"other": 1.0})
    verdict = only_value(world)
    assert (verdict.state, verdict.mean) == ("failed", None)
    assert "accuracy" in verdict.note


def test_third_party_claims_are_shown_but_never_judged(world):
    world.claim("plain", 2, 80.0, table="third-party X", evidence="second-hand")
    world.measure(world.cell("plain", depth=2), CLOSE)
    assessment = world.assess()
    assert not assessment.values
    assert len(assessment.third_party) == 1


def test_holm_covers_a_table_and_the_unadjusted_state_is_kept(world):
    world.claim("plain", 4, 80.0)
    world.measure(world.cell("plain", depth=4), [80.0, 81.2, 79.4, 80.4, 79.5])
    alone = only_value(world)
    assert (alone.state, alone.tests) == ("reproduced", 1)
    for copy in range(9):
        world.answer(f"t1-{{dataset}}-{{variant}}-{{depth}}-{copy}")
        world.claim("plain", 4, 80.0, setting={"depth": "4", "copy": str(copy)})
    among_ten = world.assess().values[0]
    assert among_ten.p_equal == pytest.approx(min(1.0, 10 * alone.p_equal))
    assert (among_ten.state, among_ten.plain, among_ten.tests) == ("inconclusive", "reproduced", 10)
    assert "reproduced before the adjustment for 10 claims" in among_ten.note


def test_no_true_claim_of_a_table_is_called_different_too_often(world):
    """Family-wise error of `differs` over simulated tables of two true claims."""
    world.claim("plain", 2, 50.0)
    world.claim("plain", 4, 50.0)
    random = np.random.default_rng(0)
    trials, wrong = 400, 0
    for _ in range(trials):
        world.records.clear()
        for depth in (2, 4):
            world.measure(world.cell("plain", depth=depth), random.normal(50, 5, 5).tolist())
        wrong += any(verdict.state == "differs" for verdict in world.assess().values)
    assert wrong / trials < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_an_ordering_holds_and_is_paired_over_seeds(world):
    world.measure(world.cell("plain", depth=4), [20.0, 40.0, 60.0, 80.0, 50.0])
    measure_ours(world, 4, [21.0, 41.1, 61.0, 80.9, 51.0])
    verdict = orderings(world)[4]
    assert (verdict.state, verdict.paired, verdict.n) == ("holds", True, 5)
    assert verdict.difference == pytest.approx(1.0)


def test_an_ordering_is_reversed(world):
    world.measure(world.cell("plain", depth=4), CLOSE)
    measure_ours(world, 4, [70.0, 70.2, 69.8, 70.1, 69.9])
    assert orderings(world)[4].state == "reversed"


def test_orderings_hold_at_any_scale(world):
    world.measure(world.cell("plain", "demo", depth=2), [10.0, 10.1])
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", "demo", depth=2, s=s), [20.0, 20.1])
    assert orderings(world, "demo")[2].state == "holds"


def test_an_ordering_of_equal_constants_is_inconclusive(world):
    world.measure(world.cell("plain", depth=4), [7.79] * 5)
    measure_ours(world, 4, [7.79] * 5)
    assert orderings(world)[4].state == "inconclusive"
    assert "would show" not in orderings(world)[4].note


def test_an_open_ordering_says_what_its_seeds_could_have_shown(world):
    world.measure(world.cell("plain", depth=4), [20.0, 40.0, 60.0, 80.0, 50.0])
    measure_ours(world, 4, [19.0, 42.0, 61.0, 79.0, 50.0])
    verdict = orderings(world)[4]
    assert verdict.state == "inconclusive"
    assert "these 5 would show a difference of 1.77 in 4 of 5 cases" in verdict.note


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


def test_coverage_counts_each_claim_once_at_the_largest_scale(world):
    world.claim("plain", 2, 80.0)
    world.claim("plain", 4, 80.0)
    world.claim("Elsewhere", 2, 80.0)
    world.measure(world.cell("plain", depth=2), CLOSE)
    world.measure(world.cell("plain", "demo", depth=2), [10.0, 11.0])
    assessment = world.assess("demo", "full")
    assert len(assessment.values) == 4
    counts = assessment.coverage()
    assert list(counts) == list(VALUE_STATES)
    assert {state: n for state, n in counts.items() if n} == {"reproduced": 1, "not run": 1, "not covered": 1}


def test_two_answers_to_one_claim_are_refused(world):
    world.answer("t1-cora-{variant}-2")
    world.claim("plain", 2, 80.0)
    with pytest.raises(
        CardError, match=r"claim 't1-cora-plain-2' has two answers at one scale, depth/plain.*depth.: 4"
    ):
        world.assess()


def test_names_say_how_ids_write_what_the_card_calls_otherwise(world):
    data = world.paper.model_dump()
    names = {"plain": "gcn", "true": "yes"}
    data["recipes"][0]["answers"] = [{"measured": "accuracy", "claims": "{variant}-{depth}-{bias}", "names": names}]
    data["recipes"][0]["hyper"]["bias"] = {"value": True, "source": "ours"}
    world.paper = PaperCard.model_validate(data)
    world.claim("plain", 2, 80.0, id="gcn-2-yes")
    world.claim("plain", 2, 80.0, id="plain-2-true")
    assert [verdict.state for verdict in world.assess().values] == ["not run", "not covered"]


def test_candidates_of_a_tuned_setting_answer_no_claim_by_its_value(world):
    world.answer("s-{variant}-{depth}-{s}")
    for name in ("s-ours-2-0.5", "s-plain-2-0.0"):
        world.claim("any", 2, 80.0, id=name)
    assert [verdict.state for verdict in world.assess().values] == ["not covered", "not run"]


def test_an_answer_that_names_no_claim_is_refused(world):
    world.claim("plain", 2, 80.0)
    check_claims(world.paper, world.claims)
    world.claim("Ours", 2, 80.0, table="third-party X", id="x-ours-2")
    data = world.paper.model_dump()
    data["tables"]["third-party X"] = data["tables"]["T1"]
    world.paper = PaperCard.model_validate(data)
    world.answer("x-{variant}-{depth}")
    with pytest.raises(
        CardError, match=r"methods/toy/card.yaml: recipe 'depth': `claims: x-{variant}-{depth}`"
    ) as error:
        check_claims(world.paper, world.claims)
    assert "\n" not in str(error.value)


def test_a_claim_of_a_table_that_the_card_lacks_is_refused(world):
    world.claim("plain", 2, 80.0, table="T7")
    with pytest.raises(CardError, match=r"methods/toy/claims.csv: 't7-cora-plain-2' is of the table 'T7'"):
        check_claims(world.paper, world.claims)


def test_names_for_the_eye_decide_no_verdict(root):
    """All labels and titles of the real cards changed: each claim is answered by the same cells."""
    papers, datasets = load_papers(root), load_datasets(root)
    cells = [cell for scale in SCALES for cell in plan(papers, datasets, scale)]
    retitled = {name: card.model_copy(update={"title": f"Data {name}"}) for name, card in datasets.items()}
    for name, paper in papers.items():
        claims = load_claims(root / "methods" / name / "claims.csv")
        data = paper.model_dump()
        for table in data["tables"].values():
            table["title"] += ", renamed"
        for recipe in data["recipes"]:
            recipe["title"] += ", renamed"
            for variant in recipe["variants"].values():
                variant["label"] += ", renamed"
        before = assess(paper, claims, cells, [], Currency({}, datasets))
        after = assess(PaperCard.model_validate(data), claims, cells, [], Currency({}, retitled))
        assert [answered(verdict) for verdict in before.values] == [answered(verdict) for verdict in after.values]
        assert any(verdict.row for verdict in before.values)


def answered(verdict):
    return verdict.claim.id, verdict.state, verdict.row and verdict.row.cell.identity


@pytest.mark.parametrize("paper", sorted(load_papers(ROOT)))
def test_every_answer_of_the_real_cards_names_a_claim(paper):
    check_claims(load_papers(ROOT)[paper], load_claims(ROOT / "methods" / paper / "claims.csv"))


def test_records_that_no_cell_plans_are_kept_apart(world):
    world.measure(world.cell("plain", depth=2), [80.0], identity="0" * 12)
    assessment = world.assess()
    assert [record.identity for record in assessment.orphans] == ["0" * 12]
    assert {row.state for row in assessment.rows} == {"not run"}


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
    assert found["ours"].p == pytest.approx(2 * 2**-9)
    assert (found["majority"].state, len(found["majority"].differences)) == ("below", 8)


def test_a_comparison_of_too_few_pairs_says_so(world):
    world.measure(world.cell("plain", depth=2), CLOSE)
    measure_ours(world, 2, [90.0] * 5)
    found = compared(world)
    assert (found["ours"].state, found["ours"].p, found["ours"].tests) == ("inconclusive", 0.0625, 1)
    assert "too few unequal pairs: all on one side give p = 0.0625" in found["ours"].note
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
