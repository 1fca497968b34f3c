"""What a campaign asks, in which order and at which price; what it measures is tested in tests/workflow."""

from types import SimpleNamespace

import pytest

from retable.campaign import Campaign, View, place_of
from retable.cards import CardError
from retable.config import Config

CLOSE = [80.0, 80.1, 79.9, 80.05, 79.95]
WIDE = [78.0, 82.0, 80.5, 79.0, 80.0]
OPEN = [79.0, 82.4, 80.7, 79.9, 81.2]
RUN_SECONDS = 1.5


@pytest.fixture
def campaign(world, tmp_path, monkeypatch):
    """A campaign on what the world has measured, by default on a processor; the lines it says are its `said`."""
    monkeypatch.setattr("retable.campaign.View.of", lambda _: view(world))

    def make(device="cpu", jobs=1, hours=1000.0, papers=None):
        workspace = SimpleNamespace(
            config=Config(device=device, papers=papers),
            root=tmp_path,
            raw=tmp_path,
            datasets={"cora": world.dataset},
            papers={"toy": world.paper},
        )
        said = []
        made = Campaign(workspace, jobs, hours, said.append)
        made.said = said
        return made

    return make


def view(world) -> View:
    cells = [*world.cells("full"), *world.cells("demo")]
    for record in world.records:
        record.environment.setdefault("device", "cpu: some")
    return View(
        SimpleNamespace(looks=world.looks, records=world.records),
        {"toy": world.assess("full", "demo")},
        {cell.identity: cell for cell in cells},
        {(record.identity, record.seed) for record in world.records},
        {place_of(r.cell): r.environment["device"].partition(":")[0] for r in world.records},
    )


def measure_ours(world, depth, values):
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=depth, s=s), values, validation=[s] * len(values))


def test_an_open_number_is_asked_with_its_look_two_at_the_price_of_its_records(world, campaign):
    world.claim("plain", 2, 80.0)
    world.measure(world.cell("plain", depth=2), WIDE)
    made = campaign()
    (choice,) = [each for each in made.choose() if each.question.key[1] == "number"]
    (verdict,) = world.assess().values
    assert choice.question.seeds == {world.cell("plain", depth=2).identity: verdict.look_two}
    assert choice.worth == pytest.approx(0.8)
    assert choice.seconds == pytest.approx((verdict.look_two - 5) * RUN_SECONDS)


def numbers(made):
    """The questions about numbers that a campaign could ask."""
    return [each for each in made.open if each.key[1] == "number"]


@pytest.mark.parametrize(
    ("values", "change"),
    [
        (CLOSE, {}),  # reproduced
        (WIDE, {"used_for": "the split"}),
        (WIDE, {"evidence": "memory"}),
    ],
)
def test_what_is_decided_or_never_judged_is_not_asked(world, campaign, values, change):
    world.claim("plain", 2, 80.0, **change)
    world.measure(world.cell("plain", depth=2), values)
    assert not numbers(campaign())


def test_what_had_both_looks_is_not_asked(world, campaign):
    world.claim("plain", 2, 80.0)
    cell = world.cell("plain", depth=2)
    world.measure(cell, WIDE)
    world.stored = {cell.identity: (3, 5)}
    assert not numbers(campaign())


def test_a_look_that_is_begun_keeps_its_number_of_seeds(world, campaign):
    world.claim("plain", 2, 80.0)
    cell = world.cell("plain", depth=2)
    world.measure(cell, WIDE)
    world.stored = {cell.identity: (5, 150)}
    (question,) = numbers(campaign())
    assert question.seeds == {cell.identity: 150}
    world.stored = {cell.identity: (5, 6)}
    assert not campaign().open


def measure_statement(world):
    """Two open parts: ours over plain at depth 2 and, with fewer seeds to go, at depth 4."""
    for depth in (2, 4):
        world.measure(world.cell("plain", depth=depth), CLOSE)
    measure_ours(world, 2, [79.0, 82.4, 80.7, 79.4, 80.4])
    measure_ours(world, 4, OPEN)


def test_a_statement_is_worth_five_and_its_second_part_what_the_first_leaves(world, campaign):
    measure_statement(world)
    first, second = campaign().choose()
    assert first.question.key == second.question.key == ("toy", "statement", "ours-is-better", "full")
    assert (first.worth, second.worth) == (pytest.approx(5 * 0.8), pytest.approx(5 * 0.2 * 0.8))
    assert {world.cell("ours", depth=4, s=s).identity for s in (0.5, 1.0)} <= first.question.seeds.keys()
    # Three cells to the same number of seeds.
    (seeds,) = set(first.question.seeds.values())
    assert first.seeds == 3 * (seeds - 5)


def test_what_is_chosen_costs_the_next_question_nothing(world, campaign):
    measure_statement(world)
    world.claim("plain", 4, 80.96, std=1.0, varied="seeds")
    chosen = campaign().choose()
    place = next(index for index, each in enumerate(chosen) if each.question.key[1] == "number")
    number, cell = chosen[place], world.cell("plain", depth=4).identity
    before = max(each.question.seeds.get(cell, 5) for each in chosen[:place])
    assert before > 5
    assert number.seeds == max(number.question.seeds[cell] - before, 0)


def test_the_list_holds_what_fits_into_the_time_of_all_jobs(world, campaign):
    measure_statement(world)
    first, _ = campaign().choose()
    assert len(campaign(hours=first.seconds / 3600).choose()) == 1
    assert len(campaign(hours=first.seconds / 3600 / 2, jobs=2).choose()) == 1
    assert not campaign(hours=first.seconds / 3600 / 2).choose()
    made = campaign(hours=first.seconds / 3600)
    made.choose()
    tasks = made.tasks()
    assert {task.cell for task in tasks} == first.question.seeds.keys()
    assert sum(len(task.seeds) for task in tasks) == first.seeds
    assert all(min(task.seeds) == 5 for task in tasks)


def test_a_table_stays_on_the_device_of_its_records(world, campaign):
    measure_statement(world)
    assert campaign("cpu").open
    assert not campaign("cuda").open
    for record in world.records:
        record.environment["device"] = "cuda: some"
    assert campaign("cuda").open


def test_without_records_a_cell_has_the_price_of_its_rehearsal_or_none(world, campaign, tmp_path):
    world.claim("plain", 2, 80.0)
    made = campaign()
    cell = world.cell("plain", depth=2)
    assert cell.identity in made.unpriced
    assert not [each for each in made.open if each.key[1] == "number"]
    (tmp_path / "benchmarks").mkdir()
    table = tmp_path / "benchmarks" / "rehearsal.csv"
    table.write_text(f"cell,name,state,seconds,whole_seconds\n{cell.identity},toy,ok,0.5,12\nother,toy,no weights,,\n")
    (choice,) = campaign().choose()
    assert (choice.seeds, choice.seconds) == (5, 60.0)
    assert choice.worth == pytest.approx(0.5)


def test_it_says_what_it_will_ask_and_what_is_left(world, campaign):
    measure_statement(world)
    made = campaign()
    made.choose()
    made.announce()
    text = "\n".join(made.said)
    assert "toy: ours-is-better at full scale: “Ours” better than “plain” on cora" in text
    assert "asks 0 numbers and 1 statement, expected to decide 0.0 and 1.0" in text
    assert "left for more time: 0 questions" in text


def test_an_unknown_paper_gets_the_valid_ones(campaign):
    with pytest.raises(CardError, match=r"unknown paper 'toi'.*toy"):
        campaign(papers="toi")


@pytest.mark.parametrize(("jobs", "hours"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_no_jobs_and_no_time_are_refused(campaign, jobs, hours):
    with pytest.raises(CardError, match="needs at least one job and more than no time"):
        campaign(jobs=jobs, hours=hours)
