"""The graph of a cell."""

import pytest
import torch

from methods.lagnn.task import Task
from retable.cards import DataError


def test_features_are_normalised_and_sparse_ones_are_the_same(make) -> None:
    task = Task(make("gcn")[1])
    assert torch.equal(task.sparse.csr.to_dense(), task.normalised)
    torch.testing.assert_close(task.normalised, task.x / task.x.sum(1, keepdim=True))
    assert {part: len(nodes) for part, nodes in task.nodes.items()} == {"train": 200, "val": 500, "test": 1097}


def test_features_beyond_1_are_divided_by_the_largest(make, monkeypatch) -> None:
    context = make("gcn")[1]
    plain = Task(context)
    graph, split = context.data()
    graph.x.data *= 2.5
    monkeypatch.setattr(context, "data", lambda: (graph, split))
    task = Task(context)
    assert task.x.max() == 1
    torch.testing.assert_close(task.x, plain.x / plain.x.max())
    torch.testing.assert_close(task.normalised, plain.normalised)


def test_negative_features_are_refused(make, monkeypatch) -> None:
    context = make("gcn")[1]
    graph, split = context.data()
    graph.x.data[0] = -2.0
    monkeypatch.setattr(context, "data", lambda: (graph, split))
    with pytest.raises(DataError, match="the generator needs them in 0 to 1"):
        Task(context)
