"""Looks of cells: what is stored, what counts, and that there is no third."""

import pytest

from retable.cards import CardError
from retable.looks import Looks, in_common, load_looks


def test_a_cell_that_was_never_published_has_look_one_at_its_planned_seeds(world):
    assert Looks().of(world.cell("plain", depth=2)) == (5,)


@pytest.mark.parametrize(("stored", "looks"), [((2,), (2, 5)), ((5,), (5,)), ((8,), (8,)), ((2, 3), (2, 3))])
def test_the_plan_asks_for_look_two_where_it_has_more_seeds_than_look_one(world, stored, looks):
    cell = world.cell("plain", depth=2)
    assert Looks({cell.identity: stored}).of(cell) == looks


@pytest.mark.parametrize(
    ("stored", "seeds", "after"),
    [((), 5, (5,)), ((), 2, (5,)), ((2,), 2, (2,)), ((2,), 3, (2, 5)), ((2,), 5, (2, 5)), ((2, 3), 3, (2, 3))],
)
def test_publishing_begins_look_one_and_then_look_two_at_the_planned_seeds(world, stored, seeds, after):
    cell = world.cell("plain", depth=2)
    looks = Looks({cell.identity: stored} if stored else {}).after([(cell, seeds)])
    assert looks.stored == {cell.identity: after}


@pytest.mark.parametrize(
    ("stored", "seeds", "why"),
    [
        ((2, 3), 4, "4 seeds would be a third look"),
        ((), 6, "more than look one, which has 5"),
        ((5,), 6, "by the card"),
    ],
)
def test_a_third_look_and_one_that_was_not_fixed_before_are_refused(world, stored, seeds, why):
    cell = world.cell("plain", depth=2)
    with pytest.raises(CardError, match=why):
        Looks({cell.identity: stored} if stored else {}).after([(cell, seeds)])


def test_the_table_is_read_as_it_was_written_under_older_names_too(world, tmp_path):
    cells = [(world.cell("plain", depth=2), 5), (world.cell("majority"), 3)]
    looks = Looks({cells[0][0].identity: (2,)}).after(cells)
    looks.write(tmp_path)
    text = (tmp_path / "published" / "looks.csv").read_text()
    assert f"{cells[0][0].identity},toy,depth,full,cora,plain,2,5\n" in text
    assert load_looks(tmp_path, {}) == looks
    assert load_looks(tmp_path, {cells[0][0].identity: "new"}).stored["new"] == (2, 5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("identity,first\n", "expected the columns"),
        ("HEAD\na,p,r,full,d,v,five,\n", "looks.csv:2: expected a cell"),
        ("HEAD\na,p,r,full,d,v,5,3\n", "looks.csv:2: expected a cell"),
        ("HEAD\na,p,r,full,d,v,,5\n", "looks.csv:2: expected a cell"),
        ("HEAD\na,p,r,full,d,v,5,\na,p,r,full,d,v,5,\n", "looks.csv:3: the cell a again"),
        (b"\xff", "looks.csv:1: not UTF-8"),
    ],
)
def test_what_is_no_table_of_looks_is_told_in_one_line(tmp_path, text, problem):
    path = tmp_path / "published" / "looks.csv"
    path.parent.mkdir()
    head = "identity,paper,recipe,scale,dataset,variant,first,second"
    path.write_bytes(text if isinstance(text, bytes) else text.replace("HEAD", head).encode())
    with pytest.raises(CardError, match=problem) as caught:
        load_looks(tmp_path, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "looks"),
    [
        ([(5,), (5,)], (5,)),
        ([(5, 20), (5, 20)], (5, 20)),
        ([(5, 20), (5,)], (5,)),
        ([(5, 20), (20,)], (5, 20)),
        ([(5, 20), (10,)], (5,)),  # the second could still become 20
        ([(3, 9), (5, 20)], (3, 9)),
        ([(20,), (5,)], (5,)),
    ],
)
def test_what_rests_on_several_cells_is_looked_at_twice_at_most(cells, looks):
    assert in_common(cells) == looks


def test_growing_cells_never_give_a_third_look():
    """Each cell goes from look one to look two at some time, in any order."""
    finals = [(3, 9), (5, 20), (9, 12)]
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        now, seen = [each[:1] for each in finals], set()
        for index in order:
            seen.update(in_common(now))
            now[index] = finals[index]
        seen.update(in_common(now))
        assert len(seen) <= 2
