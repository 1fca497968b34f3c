import csv

import pytest

from retable.report.tables import comparison, grids, same_setting, write_csv

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


def test_csv_has_every_row_and_the_claim_at_full_precision(world, tmp_path):
    full_world(world)
    paths = write_csv({"toy": world.assess("full", "demo")}, {"cora": world.dataset}, tmp_path)
    assert [path.name for path in paths] == ["toy_depth_full.csv", "toy_depth_demo.csv"]
    with paths[0].open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "accuracy"]
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
