"""Lines of the page; the page itself: tests/retable/test_whatif.py."""

from retable.report.explorations import lines
from retable.whatif import explore


def test_a_line_stands_beside_the_nearest_cell_and_says_what_it_changes(world) -> None:
    cell = world.cell("plain", depth=2)
    (made,) = explore([cell], {"toy": world.paper}, {"lr": [0.2]})
    base = world.measure(cell, [80.0, 82.0])
    explored = world.measure(made, [70.0, 74.0])
    (line,) = lines(explored, {"toy": world.paper}, {"full": world.cells()}, base, world.currency)
    assert line.changes == {"lr": (0.1, 0.2)}
    assert (line.own.mean, line.base.mean, line.difference) == (72.0, 81.0, -9.0)
    assert line.base.cell == cell


def test_what_failed_or_is_stale_is_no_number(world) -> None:
    cell = world.cell("plain", depth=2)
    (made,) = explore([cell], {"toy": world.paper}, {"lr": [0.2]})
    explored = world.measure(made, [70.0], source_sha256="d" * 64)
    explored += world.measure(made, [70.0], first_seed=1, state="failed", error="no", metrics={})
    (line,) = lines(explored, {"toy": world.paper}, {"full": world.cells()}, [], world.currency)
    assert (line.own.mean, line.difference) == (None, None)
    assert line.own.state == "stale, failed"
    assert line.base.state == "not run"
    assert lines(explored, {}, {}, [], world.currency) == []
