from dataclasses import replace

import numpy as np
import pytest
import torch

from methods.gcl.graphs.gin import GIN
from retable.nn.graph_batch import GraphBatch, batches, select_graphs, with_self_loops, wl_classes


def random_batch(sizes: list[int], seed: int = 0, features: int = 3) -> GraphBatch:
    """Undirected random graphs without self-loops; about a third of all pairs are linked."""
    generator = np.random.default_rng(seed)
    edges, first = [np.empty((2, 0), dtype=np.int64)], 0
    for size in sizes:
        upper = np.triu(generator.random((size, size)) < 0.35, k=1)
        edges.append(np.stack(np.nonzero(upper | upper.T)) + first)
        first += size
    x = torch.from_numpy(generator.normal(size=(first, features)))
    node_graph = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return GraphBatch(x, torch.from_numpy(np.concatenate(edges, axis=1)), node_graph, len(sizes))


def alone(batch: GraphBatch, graph: int) -> tuple[list, set]:
    """Features and local edges of one graph, found by looking at every node and edge."""
    nodes = [node for node in range(len(batch.x)) if batch.node_graph[node] == graph]
    place = {node: number for number, node in enumerate(nodes)}
    pairs = [tuple(edge) for edge in batch.edge_index.T.tolist() if edge[0] in place]
    return batch.x[nodes].tolist(), {(place[a], place[b]) for a, b in pairs}


def test_a_batch_taken_apart_holds_the_same_graphs():
    batch = random_batch([5, 1, 8, 3, 6])
    chosen = torch.tensor([3, 0, 4, 1])
    taken = select_graphs(batch, chosen)
    assert taken.graphs == 4
    assert taken.node_graph.tolist() == sorted(taken.node_graph.tolist())
    for number, graph in enumerate(chosen.tolist()):
        assert alone(taken, number) == alone(batch, graph)


def test_taking_does_not_need_edges_in_order():
    batch = random_batch([4, 6])
    shuffled = batch.edge_index[:, torch.randperm(batch.edge_index.shape[1])]
    mixed = GraphBatch(batch.x, shuffled, batch.node_graph, batch.graphs)
    for graph in range(2):
        assert alone(select_graphs(mixed, torch.tensor([graph])), 0) == alone(batch, graph)


def test_neighbourhood_and_membership_sum_over_neighbours_and_graphs():
    batch = random_batch([5, 2, 4])
    expected = batch.x.clone()
    for a, b in batch.edge_index.T.tolist():
        expected[b] += batch.x[a]
    torch.testing.assert_close(batch.neighbourhood @ batch.x, expected)
    sums = torch.stack([batch.x[batch.node_graph == graph].sum(0) for graph in range(3)])
    torch.testing.assert_close(batch.membership @ batch.x, sums)


def test_direction_and_repetition_of_edges_count():
    x = torch.tensor([[1.0], [10.0]])
    batch = GraphBatch(x, torch.tensor([[0, 0, 0], [1, 1, 0]]), torch.zeros(2, dtype=torch.long), 1)
    assert (batch.neighbourhood @ x).tolist() == [[2.0], [12.0]]


def test_self_loops_stop_before_the_last_node_that_has_an_edge():
    batch = GraphBatch(
        torch.zeros(9, 1),
        torch.tensor([[0, 2, 6, 5], [2, 0, 5, 6]]),
        torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2]),
        3,
    )
    looped = with_self_loops(batch).edge_index.T.tolist()
    assert looped[:4] == batch.edge_index.T.tolist()
    assert looped[4:] == [[0, 0], [1, 1], [4, 4], [5, 5]]  # the third graph has no edges


@pytest.mark.parametrize(
    ("graphs", "size", "expected"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (3, 4, [3]), (2, 1, [2]), (5, 1, [2, 3]), (5, 5, [5])],
)
def test_no_batch_holds_one_graph(graphs, size, expected):
    batch = random_batch([2] * graphs)
    order = torch.randperm(graphs)
    parts = list(batches(batch, order, size))
    assert [part.graphs for part in parts] == expected
    torch.testing.assert_close(torch.cat([part.x for part in parts]), select_graphs(batch, order).x)


def test_a_set_of_one_graph_is_refused():
    with pytest.raises(ValueError, match="needs two of them, this set has 1"):
        list(batches(random_batch([3]), torch.tensor([0]), 4))


def test_no_network_of_that_depth_tells_alike_nodes_apart():
    batch = random_batch([6, 9, 4, 7], seed=2)
    batch = replace(batch, x=(batch.x > 0.8).double())
    torch.manual_seed(0)
    encoder = GIN(3, 8, 3).double()
    _, layers = encoder(batch)
    h = torch.cat(layers, dim=1)
    first, kind = wl_classes(batch, 3)
    assert len(first) < len(h)
    torch.testing.assert_close(h[first][kind], h)


def test_the_depth_decides_who_is_alike():
    path = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])
    batch = GraphBatch(torch.ones(5, 1), path, torch.zeros(5, dtype=torch.long), 1)
    assert [len(wl_classes(batch, layers)[0]) for layers in range(4)] == [1, 2, 3, 3]
    first, kind = wl_classes(batch, 2)
    assert sorted(first.tolist()) == [0, 1, 2]
    assert kind[0] == kind[4] != kind[1] == kind[3] != kind[2]
