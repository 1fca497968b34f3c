import pytest

from retable.orders import EQUIVALENCE_STATES, ORDER_STATES
from retable.report import words
from retable.rows import DeviceHours
from retable.verdicts import VALUE_STATES


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (7.785, "%", "7.79"),
        (81.0, "%", "81.00"),
        (1304912.0, "count", "1,304,912"),
        (0.12345, "", "0.1235"),
        (None, "%", "–"),
    ],
)
def test_numbers_are_rounded_for_people(value, unit, text):
    assert words.number(value, unit) == text


def test_a_difference_shows_its_sign():
    assert words.signed(-14.75, "%") == "−14.75"
    assert words.signed(0.4, "%") == "+0.40"


@pytest.mark.parametrize(
    ("mean", "std", "unit", "text"),
    [
        (81.818, 0.384, "%", "81.82 ± 0.38"),
        (81.818, None, "%", "81.82"),
        (97.6, 40.24, "", "98 ± 40"),
        (0.98765, 0.00123, "", "0.9877 ± 0.0012"),
        (3.0, 0.0, "", "3 ± 0"),
    ],
)
def test_the_spread_decides_how_many_digits_are_shown(mean, std, unit, text):
    assert words.with_spread(mean, std, unit) == text


def test_small_p_values_are_not_written_as_zero():
    assert words.p_value(0.0) == "< 0.001"
    assert words.p_value(0.0123) == "0.012"


@pytest.mark.parametrize(("seconds", "text"), [(1.234, "1.23 s"), (600, "10 min"), (86400, "24 h")])
def test_durations_take_the_unit_that_reads_best(seconds, text):
    assert words.duration(seconds) == text


def test_every_state_has_a_symbol_and_a_meaning():
    for state in (*VALUE_STATES, *ORDER_STATES, *EQUIVALENCE_STATES, "measured"):
        mark = words.MARKS[state]
        assert mark.symbol
        assert mark.meaning


def test_states_of_one_tone_are_told_apart_by_symbol():
    values = [words.MARKS[state] for state in VALUE_STATES]
    assert len({mark.symbol for mark in values}) == len(values)


def test_the_summary_follows_the_verdicts(world):
    world.claim("plain", 2, 80.0)
    world.claim("plain", 4, 90.0)
    world.measure(world.cell("plain", depth=2), [80.0, 80.1, 79.9, 80.05, 79.95])
    world.measure(world.cell("plain", depth=4), [70.0, 70.1, 69.9, 70.05, 69.95])
    text = " ".join(words.summary(world.assess(), world.paper.recipes[0]))
    assert "Of 2 claimed numbers asked at full scale: reproduced 1, differs 1." in text
    assert "depth = 4, test accuracy: 90.00 claimed, 70.00 ± 0.08 measured" in text
    assert "Statements that were not run: 1 at full scale." in text


def test_the_summary_names_a_statement_once_one_of_its_places_is_measured(world):
    world.measure(world.cell("plain", depth=2), [80.0, 80.1])
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=2, s=s), [85.0, 85.3])
    text = " ".join(words.summary(world.assess(), world.paper.recipes[0]))
    assert "“Ours” better than “plain”, full scale, 2 places: holds 1, not run 1." in text
    assert "were not run" not in text


def test_the_summary_says_what_the_adjustment_changed_and_which_errors_to_expect(world):
    for copy in range(10):
        world.answer(f"t1-{{dataset}}-{{variant}}-{{depth}}-{copy}")
        mean = 80.1 if copy else 82.0
        world.claim("plain", 4, mean, setting={"depth": "4", "copy": str(copy)}, runs=5, varied="seeds")
    world.measure(world.cell("plain", depth=4), [80.0, 81.2, 79.4, 80.4, 79.5])
    text = " ".join(words.summary(world.assess(), world.paper.recipes[0]))
    assert "asked at full scale: reproduced 9, inconclusive 1." in text
    assert "Without the adjustment for many numbers: differs 1." in text
    assert "of the 10 tested numbers at most 0.5 would be called reproduced" in text
    assert words.bounds(4, 10).startswith(
        "Errors to expect: of the 4 that differ at most 0.2 are expected to be false;"
    )


def test_a_mixture_is_two_numbers_and_a_share(world):
    for seed, (value, potential) in enumerate([(77.0, -2.0), (30.0, 0.0), (79.0, -2.0)]):
        metrics = {"accuracy": value, "uniformity": potential}
        world.measure(world.cell("plain", depth=2), [value], first_seed=seed, metrics=metrics)
    row = next(row for row in world.assess().rows if row.state == "measured")
    assert words.measured(row, "accuracy", "%") == "78.00 ± 1.41 in 2 of 3; 30.00 in 1 of 3 (collapsed)"
    assert words.row_state(row) == "mixture"


def test_a_recipe_without_claims_says_so(world):
    data = world.paper.model_dump()
    data["recipes"][0] |= {"answers": [], "orderings": []}
    data["statements"][0] |= {"parts": [], "numbers": ["t1"]}
    world.paper = type(world.paper).model_validate(data)
    assert words.summary(world.assess(), world.paper.recipes[0]) == [
        "It answers no claim of the paper; its rows: not run 5."
    ]


def test_a_recipe_that_waits_for_a_card_says_so(world):
    data = world.paper.model_dump()
    for scale in data["recipes"][0]["scales"].values():
        scale |= {"datasets": {}, "user_provided": {"wordy": "official"}}
    world.paper = type(world.paper).model_validate(data)
    assert words.summary(world.assess(), world.paper.recipes[0]) == [
        "It runs once there is a card of your own download: wordy."
    ]


@pytest.mark.parametrize(
    ("counts", "text"),
    [((0, 0), "80.50 ± 0.71"), ((1, 0), "80.50 ± 0.71 (1 fit did not converge)"),
     ((2, 420), "80.50 ± 0.71 (422 fits did not converge)")],
)  # fmt: skip
def test_fits_that_did_not_converge_are_said_at_the_number(world, counts, text):
    cell = world.cell("plain", depth=2)
    for seed, count in enumerate(counts):
        metrics = {"accuracy": 80.0 + seed, "val_accuracy": 1.0, "unconverged": float(count)}
        world.measure(cell, [0.0], first_seed=seed, metrics=metrics)
    (row,) = (row for row in world.assess().rows if row.variant == "plain" and row.axes == {"depth": 2})
    assert words.measured(row, "accuracy", "%") == text


def test_a_mixture_says_it_too(world):
    cell = world.cell("plain", depth=2)
    for seed, share in enumerate((100.0, 50.0)):
        metrics = {"accuracy": 80.0, "val_accuracy": 1.0, "test_largest_class_share": share, "unconverged": 1.0}
        world.measure(cell, [0.0], first_seed=seed, metrics=metrics)
    (row,) = (row for row in world.assess().rows if row.variant == "plain" and row.axes == {"depth": 2})
    assert words.measured(row, "accuracy", "%").endswith("(constant answer) (2 fits did not converge)")


def test_hours_and_intervals_are_short():
    texts = [words.hours(value) for value in (None, DeviceHours(0.123), DeviceHours(gpu=1234.0))]
    assert texts == ["time not known", "about 0.12 processor-hours", "about 1,234 GPU-hours"]
    assert (
        words.hours_together([DeviceHours(1.0), DeviceHours(2.0, 0.5)]) == "about 0.5 GPU-hours and 3 processor-hours"
    )
    assert words.hours_together([DeviceHours(1.0), None]) == "time not known"
    assert words.interval((-1.234, 2.0), "%") == "[−1.23, +2.00]"
    assert words.interval(None) == words.around([1.0]) == "–"


def test_a_statement_says_what_was_shown_or_why_nothing_was(world):
    (verdict,) = world.assess().statements
    assert words.lacking([verdict], lambda row: DeviceHours(2.0)) == "full scale: about 8 processor-hours"
    assert words.lacking([verdict], lambda row: None) == "full scale: time not known"
    world.measure(world.cell("plain", depth=2), [80.0, 80.1, 79.9, 80.05, 79.95])
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=2, s=s), [70.0, 70.2, 69.8, 70.1, 69.9])
    (verdict,) = world.assess().statements
    assert words.shown(verdict) == "0 of 2 parts shown, 1 against"
    assert words.best([verdict]) is verdict
    against, open_part = verdict.parts
    assert words.place(against, "full") == "depth-ours-over-plain-full-cora-depth-2"
    assert words.not_measured(open_part, lambda row: DeviceHours(1.0)) == "not measured, about 2 processor-hours"
    assert words.answered({"reproduced": 2, "differs": 1, "not run": 5, "stale": 1}) == 3


def test_stale_parts_are_the_reason_that_is_named(world):
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=2, s=s), [80.0] * 5, source_sha256="0" * 64)
    (verdict,) = world.assess().statements
    assert words.lacking([verdict], lambda row: 1.0) == "full scale: 1 stale, 1 not run"
