"""Graph classification with an encoding."""

import pytest
import torch

from methods.map.run import Task
from methods.map.settings import ClassifySettings


@pytest.fixture
def task_of(demo_cell):
    def made(encoding: str) -> Task:
        cell, context = demo_cell("map", "graphs", "map", encoding=encoding)
        return Task(ClassifySettings.parse(cell.settings, "test"), context)

    return made


def test_parts_are_disjoint_and_a_batch_has_the_encodings_of_its_graphs(task_of) -> None:
    task = task_of("map")
    parts = torch.cat([task.train, task.val, task.test])
    assert sorted(parts.tolist()) == list(range(len(task.y)))
    assert [len(part) for part in (task.val, task.test)] == [50, 50]
    rows = torch.tensor([7, 2])
    batch, columns, y = task.batch(rows)
    whole = torch.cat([task.columns[task.graphs.node_graph == graph] for graph in rows])
    assert torch.equal(columns, whole)
    assert torch.equal(y, task.y[rows])
    assert torch.equal(batch.x, torch.cat([task.graphs.x[task.graphs.node_graph == graph] for graph in rows]))


def test_no_encoding_is_computed_where_none_is_read(task_of) -> None:
    assert not task_of("none").columns.any()
