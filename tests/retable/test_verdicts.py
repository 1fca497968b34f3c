"""Claims against rows: each verdict from data whose truth is known."""

from pathlib import Path

import numpy as np
import pytest

from retable.cards import SCALES, CardError, PaperCard, load_claims, load_datasets, load_papers
from retable.currency import Currency
from retable.looks import Looks
from retable.plan import plan
from retable.significance import p_differ, p_equal
from retable.verdicts import VALUE_STATES, assess, check_claims

ROOT = Path(__file__).resolve().parents[2]
CLOSE = [80.0, 80.1, 79.9, 80.05, 79.95]


def only_value(world, *scales):
    (found,) = world.assess(*scales).values
    return found


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
    world.claim("plain", 2, 80.4, runs=5, varied="seeds")
    world.measure(world.cell("plain", depth=2), CLOSE)
    verdict = only_value(world)
    assert verdict.state == "reproduced"
    assert "inside the margin, yet 0.4 lower" in verdict.note


def test_a_wide_spread_is_inconclusive_and_says_how_many_seeds_would_settle_it(world):
    world.claim("plain", 2, 80.0)
    world.measure(world.cell("plain", depth=2), [78.0, 82.0, 80.5, 79.0, 80.0])
    verdict = only_value(world)
    assert verdict.state == "inconclusive"
    assert verdict.look_two > 5
    # Of 1.5 s of the processor each, as those before.
    assert verdict.hours.processor == pytest.approx((verdict.look_two - 5) * 1.5 / 3600)
    assert f"look two at {verdict.look_two} seeds would settle it ({verdict.hours})" in verdict.note


def test_a_number_is_tested_at_both_looks(world):
    world.claim("plain", 2, 82.0, runs=5, varied="seeds")
    cell = world.cell("plain", depth=2)
    world.measure(cell, [80.0, 82.5, 81.0])
    world.stored = {cell.identity: (3,)}
    first = only_value(world)
    assert (first.looks, first.state) == ((3,), "inconclusive")
    world.measure(cell, [80.2, 80.4], first_seed=3)
    second = only_value(world)
    assert (second.looks, second.n) == ((3, 5), 5)
    assert [p_differ(gap) for gap in second.gaps][:1] == [p_differ(gap) for gap in first.gaps]
    assert second.p_differ == pytest.approx(2 * min(p_differ(gap) for gap in second.gaps))
    assert second.p_equal == pytest.approx(2 * min(p_equal(gap, 1.0) for gap in second.gaps))
    assert (second.state, second.look_two) == ("inconclusive", None)
    assert "both looks are taken" in second.note


def test_a_look_that_is_not_complete_is_shown_and_not_judged(world):
    world.claim("plain", 2, 60.0)
    cell = world.cell("plain", depth=2)
    world.measure(cell, CLOSE[:4])
    world.stored = {cell.identity: (5,)}
    verdict = only_value(world)
    assert (verdict.state, verdict.n, verdict.mean) == ("incomplete", 4, pytest.approx(80.0125))
    assert (verdict.looks, verdict.p_differ, verdict.note) == ((), None, "4 of 5 seeds of look one")


def test_one_seed_is_inconclusive(world):
    world.claim("plain", 2, 80.0)
    world.measure(world.cell("plain", depth=2), [80.0])
    verdict = only_value(world)
    assert (verdict.state, verdict.std) == ("inconclusive", None)
    assert "one seed has no spread" in verdict.note


def test_equal_values_are_tested_with_the_printed_digit_as_their_spread(world):
    world.claim("plain", 2, 7.79)
    world.measure(world.cell("plain", depth=2), [7.785, 7.786, 7.784, 7.7851, 7.7849])
    verdict = only_value(world)
    assert verdict.state == "reproduced"
    assert 0 < verdict.p_equal < 0.001
    assert verdict.p_differ > 0.05


def test_two_equal_values_decide_nothing(world):
    world.claim("plain", 2, 50.0)
    data = world.paper.model_dump()
    data["recipes"][0]["variants"]["plain"]["control"] = True
    world.paper = PaperCard.model_validate(data)
    world.measure(world.cell("plain", depth=2), [7.79] * 2)
    verdict = only_value(world)
    assert (verdict.state, verdict.p_equal) == ("inconclusive", None)
    assert "two equal values have no spread to test with" in verdict.note


def test_one_test_item_is_the_least_spread_where_records_count_the_items(world):
    world.claim("plain", 2, 80.0)
    counted = {"accuracy": 80.9, "val_accuracy": 1.0, "test_items": 100.0, "test_largest_class_share": 30.0}
    world.measure(world.cell("plain", depth=2), [80.9] * 3, metrics=counted)
    verdict = only_value(world)
    assert verdict.gaps[-1].error == pytest.approx(1 / 3**0.5)
    assert verdict.state == "inconclusive"


def test_the_papers_deviation_is_no_margin(world):
    world.claim("plain", 2, 82.0, std=4.0, runs=100, varied="seeds")
    world.measure(world.cell("plain", depth=2), CLOSE)
    verdict = only_value(world)
    assert (verdict.state, verdict.margin) == ("differs", 1.0)
    assert "the paper's own deviation over seeds, 4, is wider than the margin" in verdict.note


@pytest.mark.parametrize(
    ("varied", "fixed"), [("seeds", 4.0**2 / 10), ("splits", 0.0625), ("folds", 0.0625), (None, 0.0625)]
)
def test_a_deviation_over_another_source_is_no_error_of_the_papers_mean(world, varied, fixed):
    world.claim("plain", 2, 82.0, std=4.0, runs=10, varied=varied)
    world.measure(world.cell("plain", depth=2), [79.75, 80.0, 80.25])
    assert only_value(world).gaps[-1].fixed == pytest.approx(fixed)


def test_what_no_number_of_seeds_can_decide_is_never_scheduled(world):
    world.claim("plain", 2, 83.0, std=4.0, varied="seeds")
    world.measure(world.cell("plain", depth=2), CLOSE)
    verdict = only_value(world)
    assert verdict.state == "cannot be decided"
    assert (verdict.look_two, "look two" in verdict.note) == (None, False)


def test_a_number_that_served_to_set_up_is_shown_and_not_judged(world):
    world.claim("plain", 2, 80.0, used_for="the split")
    world.measure(world.cell("plain", depth=2), CLOSE)
    verdict = only_value(world)
    assert (verdict.state, verdict.p_equal, verdict.mean) == ("used to set up", None, pytest.approx(80.0))
    assert "it served to choose the split" in verdict.note


def test_a_margin_that_most_rows_pass_distinguishes_nothing(world):
    world.claim("plain", 2, 80.1)
    world.measure(world.cell("plain", depth=2), CLOSE)
    measure_ours(world, 2, [80.5, 80.6, 80.4, 80.5, 80.6])
    world.measure(world.cell("majority"), [30.0] * 5)
    verdict = only_value(world)
    assert (verdict.state, verdict.passing, verdict.others) == ("reproduced", 1, 2)
    assert "1 of 2 further rows lie within the margin too" in verdict.note
    world.records = [record for record in world.records if record.variant != "majority"]
    assert only_value(world).state == "within the margin, not distinctive"


@pytest.mark.parametrize(
    ("bad", "state"),
    [
        ({"test_largest_class_share": 100.0}, "constant answer"),
        ({"uniformity": 0.0}, "collapsed"),
    ],
)
def test_constant_answers_and_collapsed_representations_are_no_values(world, bad, state):
    world.claim("plain", 2, 30.0)
    metrics = {"accuracy": 30.0, "val_accuracy": 1.0}
    world.measure(world.cell("plain", depth=2), [30.0] * 3, metrics=metrics | bad)
    assert only_value(world).state == state
    world.measure(
        world.cell("plain", depth=2),
        [0.0] * 2,
        first_seed=3,
        metrics={"accuracy": 80.0, "val_accuracy": 1.0, "test_largest_class_share": 30.0, "uniformity": -2.0},
    )
    verdict = only_value(world)
    assert (verdict.state, verdict.p_equal, verdict.difference) == ("mixture", None, None)
    assert f"{state} in 3 of 5 seeds" in verdict.note
    assert verdict.row.parts("accuracy") == [("", [80.0] * 2), (state, [30.0] * 3)]


def test_older_records_of_equal_accuracy_are_not_guessed_to_be_constant(world):
    world.claim("plain", 2, 15.5)
    world.measure(world.cell("plain", depth=2), [15.47] * 4 + [9.0])
    verdict = only_value(world)
    assert (verdict.state, verdict.p_equal) == ("not known", None)
    assert "do not say whether the answer is constant" in verdict.note
    world.records.clear()
    world.measure(world.cell("plain", depth=2), [15.47, 15.47, 9.0])
    assert only_value(world).state != "not known"


def test_other_scales_are_not_comparable_but_keep_their_number(world):
    world.claim("plain", 2, 80.0)
    world.measure(world.cell("plain", "demo", depth=2), [10.0, 11.0])
    verdict = only_value(world, "demo")
    assert (verdict.state, verdict.mean) == ("not comparable", 10.5)


def test_a_remembered_claim_is_no_measure(world):
    world.claim("plain", 2, 80.0, evidence="memory")
    world.measure(world.cell("plain", depth=2), CLOSE)
    assert only_value(world).state == "not comparable"


def test_a_claim_of_low_confidence_is_not_judged(world):
    world.claim("plain", 2, 80.0, setting={"depth": "2", "confidence": "low"}, id="t1-cora-plain-2")
    world.measure(world.cell("plain", depth=2), CLOSE)
    verdict = only_value(world)
    assert (verdict.state, verdict.note) == ("not comparable", "the claim was read with low confidence")


def test_a_metric_that_a_scale_does_not_produce_is_no_failure(world):
    world.claim("plain", 2, 80.0)
    world.measure(world.cell("plain", depth=2), CLOSE, metrics={"other": 1.0})
    verdict = only_value(world)
    assert (verdict.state, verdict.mean) == ("not measured at this scale", None)
    assert "accuracy" in verdict.note
    world.measure(world.cell("plain", depth=4), CLOSE)
    assert only_value(world).state == "failed"


def test_third_party_claims_are_shown_but_never_judged(world):
    world.claim("plain", 2, 80.0, table="third-party X", evidence="second-hand")
    world.measure(world.cell("plain", depth=2), CLOSE)
    data = world.paper.model_dump()
    data["tables"]["elsewhere"] = data["tables"]["T1"] | {"third_party": True}
    world.paper = PaperCard.model_validate(data)
    world.claim("plain", 4, 80.0, table="elsewhere", id="t1-cora-plain-4")
    assessment = world.assess()
    assert not assessment.values
    assert len(assessment.third_party) == 2


def test_the_false_discovery_rate_is_that_of_a_table_and_reproduced_is_unadjusted(world):
    world.claim("plain", 4, 82.0, runs=5, varied="seeds")
    world.measure(world.cell("plain", depth=4), [80.0, 81.2, 79.4, 80.4, 79.5])
    alone = only_value(world)
    assert (alone.state, alone.tests) == ("differs", 1)
    for copy in range(9):
        world.answer(f"t1-{{dataset}}-{{variant}}-{{depth}}-{copy}")
        setting = {"depth": "4", "copy": str(copy)}
        world.claim("plain", 4, 80.1, setting=setting, runs=5, varied="seeds")
    first, second = world.assess().values[:2]
    assert first.p_differ == pytest.approx(10 * alone.p_differ)
    assert (first.state, first.plain, first.tests) == ("inconclusive", "differs", 10)
    assert "differs before the adjustment for 10 claims" in first.note
    assert first.p_equal == alone.p_equal
    assert second.state == "reproduced"


def test_no_true_claim_of_a_table_is_called_different_too_often(world):
    """Error of `differs` over simulated tables of two true claims, means of five runs of unknown deviation."""
    random = np.random.default_rng(0)
    trials, wrong = 400, 0
    for _ in range(trials):
        world.records.clear()
        world.claims.clear()
        for depth in (2, 4):
            world.claim("plain", depth, random.normal(50, 5, 5).mean(), runs=5, varied="seeds")
            world.measure(world.cell("plain", depth=depth), random.normal(50, 5, 5).tolist())
        wrong += any(verdict.state == "differs" for verdict in world.assess().values)
    assert 0 < wrong / trials < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


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
    data["recipes"][0]["answers"] = [
        {
            "measured": "accuracy",
            "claims": "{variant}-{depth}-{bias}",
            "names": names,
            "margin": 1.0,
            "reason": "ours",
        }
    ]
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


@pytest.mark.parametrize(("unit", "margin", "most"), [("%", 2.1, "2"), ("fraction", 0.5, "0.02"), ("s", 1.7, "1.6")])
def test_a_margin_above_two_points_of_the_scale_is_refused(world, unit, margin, most):
    world.claim("plain", 2, 80.0, unit=unit)
    data = world.paper.model_dump()
    data["recipes"][0]["answers"][0]["margin"] = margin
    world.paper = PaperCard.model_validate(data)
    with pytest.raises(CardError, match=f"has the margin {margin}, more than 2 points .* give at most {most}$"):
        check_claims(world.paper, world.claims)


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
        before = assess(paper, claims, cells, [], Currency({}, datasets), Looks())
        after = assess(PaperCard.model_validate(data), claims, cells, [], Currency({}, retitled), Looks())
        assert [answered(verdict) for verdict in before.values] == [answered(verdict) for verdict in after.values]
        assert any(verdict.row for verdict in before.values) or not any(recipe.answers for recipe in paper.recipes)


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


def test_a_statement_that_names_an_unknown_number_is_refused():
    card = load_papers(ROOT)["contranorm"]
    statement = card.statements[0].model_copy(update={"numbers": ["depth-gcn-cora-none-3"]})
    claims = load_claims(ROOT / "methods/contranorm/claims.csv")
    wrong = (
        r"card.yaml: the statement 'deep-plain-networks-fail' names an unknown number 'depth-gcn-cora-none-3'; did you"
    )
    with pytest.raises(CardError, match=wrong):
        check_claims(card.model_copy(update={"statements": [statement]}), claims)


def test_coverage_is_counted_by_reach(world):
    world.claim("plain", 2, 80.1)
    world.claim("Other", 2, 60.0, reach="gpu")
    world.claim("Other", 4, 60.0, reach="gpu")
    world.measure(world.cell("plain", depth=2), CLOSE)
    assert world.assess().by_reach() == {"here": {"reproduced": 1}, "gpu": {"not covered": 2}}
