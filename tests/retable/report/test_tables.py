import csv

import pytest

from retable.report.tables import (
    comparison,
    csv_of_recipes,
    grids,
    grouped,
    numbers,
    ranges,
    same_setting,
    setting_of,
)

VALUES = [80.0, 80.1, 79.9, 80.05, 79.95]


def full_world(world):
    for depth in (2, 4):
        world.claim("plain", depth, 80.1)
        world.claim("Ours", depth, 85.0)
    world.claim("Other", 2, 60.0)
    world.measure(world.cell("plain", depth=2), VALUES)
    world.measure(world.cell("majority"), [30.0] * 5)
    return world


def test_the_comparison_has_every_claim_and_every_result_measured_first(world):
    full_world(world)
    lines = comparison(world.assess("full", "demo"), {"cora": world.dataset}, "full")
    assert [(line.method, line.state) for line in lines] == [
        ("plain", "reproduced"),
        ("majority", "measured"),
        ("Ours", "not run"),
        ("plain", "not run"),
        ("Ours", "not run"),
        ("Other", "not covered"),
    ]
    assert lines[0].setting == "depth = 2"
    assert lines[1].claim is None


def test_the_grid_is_the_papers_table_with_ours_below_each_line(world):
    full_world(world)
    world.claim("plain", 4, 79.0, table="third-party X", evidence="second-hand", std=0.5)
    assessment = world.assess()
    (grid,) = grids(assessment.values, assessment.third_party)
    assert (grid.scale, grid.head, grid.columns) == ("full", "depth", ["2", "4"])
    assert list(grid.rows) == ["plain", "Ours", "Other"]
    assert grid.rows["plain"]["paper"]["2"].text == "80.10"
    ours = grid.rows["plain"]["measured here"]["2"]
    assert (ours.text, ours.state, ours.n) == ("80.00 ± 0.08", "reproduced", 5)
    assert grid.rows["plain"]["measured here"]["4"].text == ""
    assert grid.rows["plain"]["third-party X"]["4"].text == "79.00 ± 0.50"
    assert "measured here" not in grid.rows["Other"]


def test_a_table_has_a_setting_only_where_one_tells_claims_apart(world):
    values = full_world(world).assess().values
    assert set(setting_of(values).values()) == {"depth = 2", "depth = 4"}
    assert setting_of([value for value in values if value.claim.setting["depth"] == "2"]) == {}


def test_no_grid_holds_numbers_of_two_scales(world):
    full_world(world)
    world.measure(world.cell("plain", "demo", depth=2), [11.0, 12.0])
    found = {grid.scale: grid for grid in grids(world.assess("full", "demo").values)}
    demo = found["demo"].rows["plain"]
    assert list(demo) == ["measured here"]
    assert demo["measured here"]["2"].text == "11.50 ± 0.71"
    assert found["full"].rows["plain"]["measured here"]["2"].text == "80.00 ± 0.08"


def test_a_table_measured_only_at_another_scale_keeps_its_claims_apart(world):
    world.claim("plain", 2, 80.1)
    world.measure(world.cell("plain", "demo", depth=2), [11.0, 12.0])
    claims, demo = grids(world.assess("demo").values)
    assert (claims.scale, list(claims.rows["plain"])) == (None, ["paper"])
    assert (demo.scale, list(demo.rows["plain"])) == ("demo", ["measured here"])


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("2", "2.0", True),
        ("0.20", "0.2", True),
        ("2", "20", False),
        ("True", "true", True),
        ("Mean", "mean", True),
        (None, "1", False),
    ],
)
def test_settings_are_compared_as_numbers_where_they_are(a, b, same):
    assert same_setting(a, b) is same


def test_without_a_varying_setting_the_data_sets_are_the_columns(world):
    for task, score in (("CoLA", 55.0), ("RTE", 60.0)):
        for row in ("first", "tuned"):
            world.claim("X", 0, score, dataset=task, setting={"row": row}, metric="score")
    (grid,) = grids(world.assess().values)
    assert grid.columns == ["CoLA: score", "RTE: score"]
    assert list(grid.rows) == ["X, row = first", "X, row = tuned"]


def test_numbers_stand_by_table_with_what_is_judged_apart_from_what_is_open(world):
    full_world(world)
    (table,) = numbers(world.assess("full", "demo"))
    assert table.table == "T1"
    assert all(v.mean is not None and v.row.scale == "full" for v in table.judged)
    claims = [v.claim.id for v in [*table.judged, *table.elsewhere, *table.open]]
    assert set(claims) == {claim.id for claim in world.claims}
    assert table.judged
    assert table.open


def test_many_runs_are_told_by_what_they_have_in_common(world):
    records = world.measure(world.cell("plain", depth=2), [80.0] * 30)
    runs = [(record, "the code changed" if record.seed == 7 else None, "measured at abc") for record in records]
    first, stale = grouped(runs)
    assert (first.seeds, first.count, first.wall) == ("0–6, 8–29", 29, 2.0)
    assert (stale.seeds, stale.reason) == ("7", "the code changed")
    assert ranges([3, 1, 2, 9]) == "1–3, 9"


def test_csv_has_every_row_and_the_claim_at_full_precision(world):
    full_world(world)
    texts = csv_of_recipes(world.assess("full", "demo"), {"cora": world.dataset})
    assert list(texts) == ["toy_depth_full.csv", "toy_depth_demo.csv"]
    lines = texts["toy_depth_full.csv"].splitlines()
    rows = [row for row in csv.DictReader(lines) if row["metric"] == "accuracy"]
    assert len(rows) == 5
    first = rows[0]
    assert (first["variant"], first["depth"], first["verdict"]) == ("plain", "2", "reproduced")
    assert float(first["mean"]) == 80.0
    assert float(first["difference"]) == 80.0 - 80.1
    empty = rows[1]
    assert (empty["mean"], empty["state"], empty["claimed"]) == ("", "not run", "80.1")


def test_a_remembered_number_is_named_as_such(world):
    world.claim("plain", 2, 80.0, evidence="memory")
    (grid,) = grids(world.assess().values)
    assert list(grid.rows["plain"]) == ["from memory", "measured here"]
