"""Lines of the page; the page itself: tests/retable/test_sending.py."""

from retable.report.others import lines


def test_a_line_stands_beside_the_same_cell_here(world) -> None:
    cell = world.cell("plain", depth=2)
    own = world.measure(cell, [80.0, 82.0])
    sent = world.measure(cell, [84.0, 86.0], environment={"device": "cpu: theirs"})
    world.measure(world.cell("plain", depth=4), [10.0])
    (line,) = lines({"ada": sent}, {"toy": world.paper}, own, world.currency)
    assert (line.sender, line.theirs.mean, line.ours.mean, line.difference) == ("ada", 85.0, 81.0, 4.0)
    assert line.machine == "cpu: theirs"
    (line,) = lines({"ada": sent}, {"toy": world.paper}, [], world.currency)
    assert (line.ours.state, line.difference) == ("not run", None)
    assert lines({"ada": sent}, {}, own, world.currency) == []
