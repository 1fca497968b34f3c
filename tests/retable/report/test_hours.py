"""How long what is not measured would take."""

import pytest

from retable.report.hours import Hours


def test_a_row_takes_what_its_like_took_times_its_seeds(world):
    world.measure(world.cell("plain", depth=2), [80.0] * 5)
    rows = world.assess("full", "demo").rows
    hours = Hours(rows)
    (plain,) = (row for row in rows if row.variant == "plain" and row.axes == {"depth": 4})
    (tuned,) = (row for row in rows if row.variant == "ours" and row.axes == {"depth": 4})
    assert hours.of(plain) == pytest.approx(1.5 * 5 / 3600)
    assert hours.of(tuned) == pytest.approx(1.5 * 5 * 2 / 3600)


def test_without_runs_the_card_tells_or_nothing_does(world):
    rows = world.assess("full").rows
    assert Hours(rows).of(rows[0]) is None
    data = world.paper.model_dump()
    scale = data["recipes"][0]["scales"]["full"]
    scale["operations"] = [{"count": 3e15 * 3600, "variants": ["plain"]}]
    world.paper = type(world.paper).model_validate(data)
    rows = world.assess("full").rows
    assert Hours(rows).of(rows[0]) == pytest.approx(10 * 5)  # at 300 TFLOP/s
    assert Hours(rows).of(rows[-1]) is None
    scale["seconds"] = 72.0
    world.paper = type(world.paper).model_validate(data)
    rows = world.assess("full").rows
    assert Hours(rows).of(rows[0]) == pytest.approx(0.1)
