"""What the extra branches see."""

import torch

from methods.lagnn.copies import make_copies, neighbours_features
from methods.lagnn.generator import CVAE
from methods.lagnn.task import Task


def test_a_copy_is_a_neighbours_row_and_changes(make) -> None:
    task = Task(make("gcn")[1])
    torch.manual_seed(0)
    first, second = (neighbours_features(task).csr.to_dense() for _ in range(2))
    assert not torch.equal(first, second)
    neighbours = {node: set() for node in range(len(task.y))}
    for source, target in task.edges.T.tolist():
        neighbours[source].add(target)
    for node in range(0, len(task.y), 97):
        rows = task.normalised[sorted(neighbours[node])]
        assert (rows == first[node]).all(1).any()


def test_a_node_without_neighbours_keeps_its_own_features(make) -> None:
    task = Task(make("gcn")[1])
    task.edges = task.edges[:, task.edges[0] != 5]
    assert torch.equal(neighbours_features(task).csr.to_dense()[5], task.normalised[5])


def test_each_kind_gives_as_many_copies_as_branches(make) -> None:
    for copies in ("generated", "neighbour", "noise", "real"):
        settings, context = make("lagcn", copies=copies, branches=2)
        task = Task(context)
        generator = CVAE(task.x.shape[1], settings.generator_hidden, settings.latent)
        drawn = make_copies(task, settings, generator)()
        assert [tuple(copy.shape) for copy in drawn] == [tuple(task.x.shape)] * 2
    settings, context = make("gcn")
    assert make_copies(Task(context), settings, None)() == []
