"""Which records speak for a row, and what a row says when none may."""

import numpy as np
import pytest

from retable.cards import PaperCard
from retable.evaluate import answers
from retable.rows import DeviceHours, companion, hours_to


def row(world, variant, **axes):
    (found,) = (r for r in world.assess().rows if r.variant == variant and r.axes == axes)
    return found


def test_an_untuned_row_has_its_cells_records_by_seed(world):
    world.measure(world.cell("plain", depth=2), [81.0, 82.0])
    found = row(world, "plain", depth=2)
    assert found.state == "measured"
    assert found.values("accuracy") == {0: 81.0, 1: 82.0}
    assert found.looks == (2,)
    assert found.note == "look two has 2 of 5 seeds, until then look one counts"


def test_seeds_of_a_look_that_is_not_complete_do_not_count(world):
    cell = world.cell("plain", depth=2)
    world.measure(cell, [81.0, 82.0, 10.0, 10.0])
    world.stored = {cell.identity: (2,)}
    found = row(world, "plain", depth=2)
    assert (found.looks, found.values("accuracy")) == ((2,), {0: 81.0, 1: 82.0})
    world.measure(cell, [10.0], first_seed=4)
    found = row(world, "plain", depth=2)
    assert (found.looks, len(found.records), found.note) == ((2, 5), 5, "")
    assert found.at(2).values("accuracy") == {0: 81.0, 1: 82.0}
    assert found.at(5) is found


def test_seeds_beyond_both_looks_do_not_count(world):
    cell = world.cell("plain", depth=2)
    world.measure(cell, [81.0, 82.0, 83.0, 84.0, 85.0])
    world.stored = {cell.identity: (2, 3)}
    assert len(row(world, "plain", depth=2).records) == 3


def test_without_all_seeds_of_look_one_a_row_is_incomplete_and_shows_what_there_is(world):
    cell = world.cell("plain", depth=2)
    world.measure(cell, [80.0] * 4)
    world.stored = {cell.identity: (5,)}
    found = row(world, "plain", depth=2)
    assert (found.state, found.note, found.looks) == ("incomplete", "4 of 5 seeds of look one", ())
    assert len(found.values("accuracy")) == 4


def test_a_look_chooses_the_candidate_by_its_own_seeds(world):
    for s, validation in ((0.5, [70, 70, 10, 10, 10]), (1.0, [60, 60, 90, 90, 90])):
        cell = world.cell("ours", depth=2, s=s)
        world.measure(cell, [s] * 5, validation=validation)
        world.stored[cell.identity] = (2,)
    found = row(world, "ours", depth=2)
    assert (found.looks, set(found.values("accuracy").values())) == ((2, 5), {1.0})
    assert set(found.at(2).values("accuracy").values()) == {0.5}


def test_hours_are_those_of_all_candidates(world):
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=2, s=s), [s] * 5)
    found = row(world, "ours", depth=2)
    assert hours_to([found], 15).processor == pytest.approx(2 * 10 * 1.5 / 3600)
    assert hours_to([found], 4) == DeviceHours()


def test_the_candidate_with_the_best_validation_mean_is_shown_even_when_its_test_mean_is_worse(world):
    world.measure(world.cell("ours", depth=2, s=0.5), [90.0] * 5, validation=[70.0] * 5)
    world.measure(world.cell("ours", depth=2, s=1.0), [80.0] * 5, validation=[75.0] * 5)
    found = row(world, "ours", depth=2)
    assert found.chosen.axes["s"] == 1.0
    assert found.values("accuracy")[0] == 80.0
    assert found.note == "s=1.0, chosen for each seed among 2 by val_accuracy of the remaining seeds"


def test_candidates_are_compared_over_the_seeds_that_all_have(world):
    world.measure(world.cell("ours", depth=2, s=0.5), [50.0, 50.0, 99.0, 99.0], validation=[50, 50, 99, 99])
    world.measure(world.cell("ours", depth=2, s=1.0), [60.0, 60.0])
    found = row(world, "ours", depth=2)
    assert found.chosen.axes["s"] == 1.0
    assert sorted(found.values("accuracy")) == [0, 1]


@pytest.mark.parametrize("metric", ["val_nll", "best_val_loss", "val_accuracy"])
@pytest.mark.parametrize(("mode", "best"), [("min", 0.5), ("max", 1.0)])
def test_the_card_says_whether_the_smallest_or_the_largest_is_chosen(world, metric, mode, best):
    data = world.paper.model_dump()
    data["recipes"][0]["variants"]["ours"]["select"] = {"metric": metric, "mode": mode}
    world.paper = PaperCard.model_validate(data)
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=2, s=s), [80.0] * 5, metrics={"accuracy": 80.0, metric: s})
    found = row(world, "ours", depth=2)
    assert found.chosen.axes["s"] == best
    assert f"among 2 by {metric} of the remaining seeds" in found.note


def test_a_seeds_own_validation_does_not_choose_its_candidate(world):
    world.measure(world.cell("ours", depth=2, s=0.5), [90.0, 91.0, 92.0], validation=[70.0, 70.0, 99.0])
    world.measure(world.cell("ours", depth=2, s=1.0), [80.0, 81.0, 82.0], validation=[75.0, 75.0, 75.0])
    found = row(world, "ours", depth=2)
    assert found.values("accuracy") == {0: 90.0, 1: 91.0, 2: 82.0}
    assert found.chosen.axes["s"] == 0.5
    assert (
        "s=0.5 for 2 and s=1.0 for 1, chosen for each seed among 2 by val_accuracy of the remaining seeds" in found.note
    )


def test_a_single_seed_chooses_by_its_own_validation_and_says_so(world):
    world.measure(world.cell("ours", depth=2, s=0.5), [90.0], validation=[70.0])
    world.measure(world.cell("ours", depth=2, s=1.0), [80.0], validation=[75.0])
    assert "s=1.0, chosen among 2 by val_accuracy of the only seed" in row(world, "ours", depth=2).note


def test_choosing_among_equals_does_not_flatter(world):
    """Candidates without a difference, validation correlated with test: the row's expected value is theirs."""
    random, found = np.random.default_rng(0), []
    for _ in range(150):
        world.records.clear()
        for s in (0.5, 1.0):
            test = random.normal(0, 1, 5)
            validation = 0.8 * test + 0.6 * random.normal(0, 1, 5)
            world.measure(world.cell("ours", depth=2, s=s), test.tolist(), validation=validation.tolist())
        found += row(world, "ours", depth=2).values("accuracy").values()
    assert abs(np.mean(found)) < 3 / len(found) ** 0.5


def test_an_open_candidate_leaves_the_row_incomplete(world):
    world.measure(world.cell("ours", depth=2, s=0.5), [90.0] * 5)
    found = row(world, "ours", depth=2)
    assert (found.state, found.note) == ("incomplete", "1 of 2 candidates")
    assert not found.values("accuracy")


def test_candidates_without_a_shared_seed_leave_the_row_incomplete(world):
    world.measure(world.cell("ours", depth=2, s=0.5), [90.0])
    world.measure(world.cell("ours", depth=2, s=1.0), [91.0], first_seed=3)
    found = row(world, "ours", depth=2)
    assert (found.state, found.note) == ("incomplete", "1 of 2 candidates")
    world.records.clear()
    world.measure(world.cell("ours", depth=2, s=0.5), [90.0])
    world.measure(world.cell("ours", depth=2, s=1.0), [91.0], metrics={"accuracy": 91.0})
    found = row(world, "ours", depth=2)
    assert found.state == "incomplete"
    assert "share no seed" in found.note


def test_a_diverged_candidate_loses_and_is_named(world):
    world.measure(world.cell("ours", depth=2, s=0.5), [90.0] * 2)
    world.measure(world.cell("ours", depth=2, s=1.0), [0.0] * 2, state="diverged", metrics={})
    found = row(world, "ours", depth=2)
    assert found.chosen.axes["s"] == 0.5
    assert "1 diverged" in found.note


@pytest.mark.parametrize("state", ["failed", "diverged"])
def test_one_bad_seed_takes_the_row_away(world, state):
    cell = world.cell("plain", depth=2)
    world.measure(cell, [80.0] * 4)
    world.measure(cell, [0.0], first_seed=4, state=state, error="out of memory", metrics={})
    found = row(world, "plain", depth=2)
    assert (found.state, found.note) == (state, f"1 of 5 seeds {state}: out of memory")
    assert not found.records


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"source_sha256": "0" * 64}, "code changed"),
        ({"data_sha256": "0" * 64}, "data or its split changed"),
        ({"split_sha256": "0" * 64}, "data or its split changed"),
        ({"split": "gone"}, "no card"),
    ],
)
def test_stale_records_are_no_result(world, change, why):
    world.measure(world.cell("plain", depth=2), [80.0] * 5, **change)
    found = row(world, "plain", depth=2)
    assert found.state == "stale"
    assert why in found.note
    assert not found.records


def test_a_look_with_a_stale_seed_is_incomplete(world):
    cell = world.cell("plain", depth=2)
    world.measure(cell, [80.0] * 3)
    world.measure(cell, [10.0] * 2, first_seed=3, source_sha256="0" * 64)
    found = row(world, "plain", depth=2)
    assert (found.state, len(found.records)) == ("incomplete", 3)
    assert found.note == "3 of 5 seeds of look one; seed 3: the code changed since it ran"


def test_a_row_without_records_is_not_run(world):
    assert row(world, "majority").state == "not run"


@pytest.mark.parametrize(("uniformity", "condition"), [(0.0, "collapsed"), (-2.0, ""), (0.55, "")])
def test_only_a_log_potential_near_zero_is_a_collapse(world, uniformity, condition):
    """U-MAE records a mean squared cosine, which is positive, under the same name."""
    for seed in range(3):
        metrics = {"accuracy": 80.0 + seed, "uniformity": uniformity}
        world.measure(world.cell("plain", depth=2), [0.0], first_seed=seed, metrics=metrics)
    assert row(world, "plain", depth=2).condition("accuracy") == condition


@pytest.mark.parametrize(
    ("metric", "share", "items"),
    [
        ("accuracy", "largest_class_share", "test_items"),
        ("last_test_accuracy", "last_test_largest_class_share", "last_test_items"),
        ("test_accuracy_10_80_10", "test_largest_class_share_10_80_10", "test_items_10_80_10"),
        ("svm_accuracy", "svm_largest_class_share", "svm_test_items"),
        ("aff_pgd_accuracy", "aff_pgd_largest_class_share", "aff_pgd_test_items"),
        ("probe_first", "probe_first_largest_class_share", "probe_first_test_items"),
    ],
)
def test_each_accuracy_finds_its_own_share_and_number_of_items(world, metric, share, items):
    metrics = {metric: 25.0, share: 100.0, items: 40.0, "other_largest_class_share": 10.0, "other_test_items": 7.0}
    world.measure(world.cell("plain", depth=2), [0.0], metrics=metrics)
    found = row(world, "plain", depth=2)
    assert found.seeds_that("constant answer", metric) == {0: True}
    if "accuracy" in metric:
        assert found.resolution(metric) == 2.5


def test_fits_that_did_not_converge_are_counted_over_seeds(world):
    metrics = {"svm_accuracy": 80.0, "svm_unconverged": 3.0, "probe_first": 1.0, "probe_first_unconverged": 1.0}
    world.measure(world.cell("plain", depth=2), [0.0, 0.0], metrics=metrics)
    found = row(world, "plain", depth=2)
    assert (found.unconverged("svm_accuracy"), found.unconverged("probe_first")) == (6, 2)
    assert found.unconverged("svm_unconverged") == found.unconverged("accuracy") == 0


@pytest.mark.parametrize(
    "metric", ["accuracy", "last_test_accuracy", "test_accuracy_10_80_10", "probe_first", "svm_accuracy"]
)
@pytest.mark.parametrize("name", ["largest_class_share", "test_items", "unconverged"])
def test_rows_look_for_what_classifiers_record_under_its_name(metric, name):
    assert companion(metric, name) == answers.companion(metric, name)
