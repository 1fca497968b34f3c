"""How long what is not measured would take."""

import pytest

from retable.records import Cost
from retable.report.hours import Hours
from retable.rows import DeviceHours


def test_a_row_takes_what_its_like_took_times_its_seeds(world):
    world.measure(world.cell("plain", depth=2), [80.0] * 5)
    rows = world.assess("full", "demo").rows
    hours = Hours(rows)
    (plain,) = (row for row in rows if row.variant == "plain" and row.axes == {"depth": 4})
    (tuned,) = (row for row in rows if row.variant == "ours" and row.axes == {"depth": 4})
    assert hours.of(plain).processor == pytest.approx(1.5 * 5 / 3600)
    assert hours.of(tuned).processor == pytest.approx(1.5 * 5 * 2 / 3600)


def test_a_row_of_the_same_variant_tells_more_than_another(world):
    world.measure(world.cell("plain", depth=2), [80.0] * 5)
    for s in (0.5, 1.0):
        slow = Cost(wall_s=90.0, cpu_s=72.0, peak_memory_bytes=10**8)
        world.measure(world.cell("ours", depth=2, s=s), [81.0] * 5, cost=slow)
    rows = world.assess("full").rows
    hours = Hours(rows)
    found = {row.variant: hours.of(row).processor for row in rows if row.axes == {"depth": 4}}
    assert (found["plain"], found["ours"]) == pytest.approx((1.5 * 5 / 3600, 72 * 5 * 2 / 3600))


def test_hours_of_a_gpu_and_of_a_processor_are_told_apart(world):
    gpu = Cost(wall_s=9.0, cpu_s=8.0, gpu_s=7.2, peak_memory_bytes=10**8)
    world.measure(world.cell("plain", depth=2), [80.0] * 3, cost=gpu)
    world.measure(world.cell("plain", depth=2), [80.0] * 2, first_seed=3)
    rows = world.assess("full").rows
    assert all(hours.guessed == (row.variant != "plain") for row in rows if (hours := Hours(rows).of(row)))
    (open_row,) = (row for row in rows if row.variant == "plain" and row.axes == {"depth": 4})
    assert Hours(rows).of(open_row) == DeviceHours(gpu=pytest.approx(7.2 * 5 / 3600))
    assert str(DeviceHours(2.0) + DeviceHours(gpu=0.5)) == "0.5 GPU-hours and 2 processor-hours"


def test_without_runs_the_card_tells_or_nothing_does(world):
    rows = world.assess("full").rows
    assert Hours(rows).of(rows[0]) is None
    data = world.paper.model_dump()
    scale = data["recipes"][0]["scales"]["full"]
    scale["operations"] = [{"count": 3e15 * 3600, "variants": ["plain"]}]
    world.paper = type(world.paper).model_validate(data)
    rows = world.assess("full").rows
    assert Hours(rows).of(rows[0]).gpu == pytest.approx(10 * 5)  # at 300 TFLOP/s
    assert Hours(rows).of(rows[-1]) is None
    scale["seconds"] = 72.0
    world.paper = type(world.paper).model_validate(data)
    rows = world.assess("full").rows
    assert Hours(rows).of(rows[0]).processor == pytest.approx(0.1)
