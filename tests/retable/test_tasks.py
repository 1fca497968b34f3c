"""Lists of cells and seeds."""

import json

import pytest

from retable.cards import CardError
from retable.tasks import Task, read_list, write_list


def test_a_list_is_read_as_it_was_written_and_anything_else_is_told_in_one_line(workspace, tmp_path):
    cells = [cell for cell in workspace.cells if cell.recipe == "node-depth"]
    path = tmp_path / "list.json"
    write_list(path, [Task(scale="demo", cell=cells[1].identity, seeds=[3, 7])])
    (cell,) = read_list(workspace, path)
    assert (cell.identity, cell.seeds) == (cells[1].identity, (3, 7))
    for text in ("", "{}", json.dumps([{"scale": "demo"}]), json.dumps([1])):
        path.write_text(text)
        with pytest.raises(CardError, match="no list of cells"):
            read_list(workspace, path)
    write_list(path, [Task(scale="demo", cell="gone", seeds=[0])])
    with pytest.raises(CardError, match="no card of this commit plans the cell gone"):
        read_list(workspace, path)
