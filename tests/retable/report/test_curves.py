"""The small drawings of a run's series: their lines against the numbers that they are of."""

import xml.etree.ElementTree as ElementTree

import pytest

from retable.report import curves

VALUES = [80.0, 80.1, 79.9, 80.05, 79.95]
SERIES = {"effective_rank/norm": [9.0, 4.0, 1.5], "effective_rank/convolution": [8.0, 3.0, 1.0], "loss": [2.0, 1.0]}


def drawn_world(world, **change):
    for depth in (2, 4):
        world.claim("plain", depth, 81.0)
        world.measure(world.cell("plain", depth=depth), VALUES, series=SERIES, **change)
    world.measure(world.cell("majority"), [30.0] * 5)
    return world


def test_cell_curves_have_a_line_a_seed_and_count_layers_from_one(world):
    drawn_world(world)
    pictures = curves.draw(world.records[:2])
    assert sorted(pictures) == ["effective_rank/convolution", "effective_rank/norm", "loss"]
    rank, loss = (ElementTree.fromstring(pictures[name]) for name in ("effective_rank/norm", "loss"))
    assert len(rank.findall("polyline")) == 2
    assert [text.text for text in rank.findall("text")] == ["9", "1.5", "1", "3"]
    assert [text.text for text in loss.findall("text")] == ["2", "1", "0", "1"]


def test_a_constant_curve_is_drawn_flat(world):
    world.measure(world.cell("plain", depth=2), [80.0], series={"loss": [1.0, 1.0, 1.0]})
    line = ElementTree.fromstring(curves.draw(world.records)["loss"]).find("polyline").get("points")
    assert len({point.split(",")[1] for point in line.split()}) == 1


def points(picture: str) -> list[list[tuple[float, float]]]:
    """The lines of a drawing; y grows upwards."""
    lines = ElementTree.fromstring(picture).findall("polyline")
    pairs = [[point.split(",") for point in line.get("points").split()] for line in lines]
    return [[(float(x), -float(y)) for x, y in line] for line in pairs]


def test_points_lie_as_the_numbers_do_and_fill_the_frame(world):
    runs = [[0.0, 3.0, 1.0, 2.0], [5.0, 4.0, -5.0, 0.0]]
    for seed, run in enumerate(runs):
        world.measure(world.cell("plain", depth=2), [80.0], first_seed=seed, series={"loss": run})
    lines = points(curves.draw(world.records)["loss"])
    left, right = curves.LEFT, curves.WIDTH - curves.RIGHT
    bottom, top = curves.FOOT - curves.HEIGHT, -curves.TOP
    for run, line in zip(runs, lines, strict=True):
        for place, value in enumerate(run):
            x, y = left + (right - left) * place / 3, bottom + (top - bottom) * (value + 5) / 10
            assert line[place] == pytest.approx((x, y), abs=0.06)


def test_a_shorter_run_ends_earlier_and_one_without_the_series_has_no_point(world):
    for seed, series in enumerate(({"loss": [3.0, 2.0, 1.0]}, {"loss": [3.0, 2.5]}, {"other": [1.0, 2.0]})):
        world.measure(world.cell("plain", depth=2), [80.0], first_seed=seed, series=series)
    drawn = curves.draw(world.records)
    full, short, none = points(drawn["loss"])
    assert [len(line) for line in (full, short, none)] == [3, 2, 0]
    assert short[1][0] == full[1][0]
    assert [len(line) for line in points(drawn["other"])] == [0, 0, 2]


def test_a_single_number_is_no_curve_and_nothing_recorded_gives_nothing(world):
    world.measure(world.cell("plain", depth=2), [80.0], series={"end": [1.0], "loss": [1.0, 2.0], "none": []})
    assert list(curves.draw(world.records)) == ["loss"]
    assert curves.draw([]) == {}
