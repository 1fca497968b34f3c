"""Drawings of numbers with their intervals."""

import re

from retable.report.plots import Point, claimed_and_measured, forest, scatter, ticks

VALUES = [80.0, 80.1, 79.9, 80.05, 79.95]


def test_points_are_claims_of_full_scale_with_the_interval_of_what_was_measured(world):
    world.claim("plain", 2, 80.5)
    world.claim("plain", 4, 80.5)
    world.claim("Ours", 2, 80.5, setting={"depth": "2", "confidence": "low"}, id="t1-cora-ours-2")
    world.measure(world.cell("plain", depth=2), VALUES)
    world.measure(world.cell("plain", "demo", depth=2), [1.0, 2.0])
    for s in (0.5, 1.0):
        world.measure(world.cell("ours", depth=2, s=s), VALUES)
    title, (point,) = claimed_and_measured(world.assess("full", "demo"))
    assert title == "test accuracy (%)"
    assert (point.claimed, round(point.value, 9)) == (80.5, 80.0)
    assert point.low < 80.0 < point.high
    assert round(point.high - 80.0, 3) == 0.098  # t(4) at 97.5 % is 2.776, the error 0.0354


def test_the_line_of_agreement_goes_through_what_agrees():
    points = [Point("a", 10.0, 9.0, 11.0, "good", 10.0), Point("b", 60.0, 40.0, 62.0, "bad", 30.0)]
    svg = str(scatter("accuracy (%)", points, 300, 300))
    (left, top), (right, bottom) = (46, 8), (292, 266)
    (x, y), *_ = [tuple(map(float, found)) for found in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert abs((x - left) / (right - left) - (bottom - y) / (bottom - top)) < 0.01
    assert "1 of the intervals leave out the claimed number" in svg


def test_a_forest_has_a_line_for_each_difference_and_one_for_none():
    points = [Point("x" * 200, -2.0, -3.0, -1.0, "bad"), Point("<b>", 0.5, -0.5, 1.5, "open")]
    svg = str(forest("difference in accuracy", points, 600))
    assert svg.count("<circle") == 2
    assert "…" in svg
    assert "<b>" not in svg
    assert ">0</text>" in svg


def test_equal_points_can_be_drawn():
    assert "<circle" in scatter("accuracy", [Point("a", 5.0, 5.0, 5.0, "good", 5.0)] * 2, 200, 200)
    assert "<circle" in forest("accuracy", [Point("a", 0.0, 0.0, 0.0, "open")], 200)


def test_ticks_are_round_and_inside():
    assert ticks(-0.1, 82.47) == [0.0, 20.0, 40.0, 60.0, 80.0]
    assert ticks(0.012, 0.058) == [0.02, 0.03, 0.04, 0.05]
