"""Common neighbours of many pairs."""

import pytest
import torch
from torch import Tensor

from methods.ncn.overlap import Members, Neighbours


def random_graph(nodes: int = 30, edges: int = 120) -> tuple[Neighbours, Tensor]:
    generator = torch.Generator().manual_seed(0)
    half = torch.randint(nodes, (2, edges), generator=generator)
    both = torch.cat([half, half.flip(0)], 1)
    dense = torch.zeros(nodes, nodes, dtype=torch.bool)
    dense[both[0], both[1]] = True
    return Neighbours(both, nodes), dense


def as_dense(members: Members, pairs: int, nodes: int) -> Tensor:
    made = torch.zeros(pairs, nodes, dtype=torch.long)
    return made.index_put_(
        (members.pair, members.node), torch.ones(len(members.pair), dtype=torch.long), accumulate=True
    )


def test_overlaps_are_those_of_dense_rows() -> None:
    graph, dense = random_graph()
    pairs = torch.stack([torch.arange(30).repeat(30), torch.arange(30).repeat_interleave(30)])
    i, j = dense[pairs[0]], dense[pairs[1]]
    for members, expected in zip(
        (*graph.overlap(pairs), graph.common(pairs)), (i & j, i & ~j, j & ~i, i & j), strict=True
    ):
        assert torch.equal(as_dense(members, 900, 30), expected.long())


def test_duplicates_count_once_and_degrees_follow() -> None:
    graph = Neighbours(torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0]]), 3)
    assert graph.degree.tolist() == [1, 1, 0]
    assert graph.edge_index.tolist() == [[0, 1], [1, 0]]


def test_pairs_without_neighbours_and_no_pairs_at_all() -> None:
    graph = Neighbours(torch.tensor([[0, 1], [1, 0]]), 4)
    assert all(len(members.node) == 0 for members in graph.overlap(torch.tensor([[2], [3]])))
    assert all(len(members.node) == 0 for members in graph.overlap(torch.empty(2, 0, dtype=torch.long)))
    empty = Neighbours(torch.empty(2, 0, dtype=torch.long), 4)
    assert all(len(members.node) == 0 for members in empty.overlap(torch.tensor([[0], [1]])))


def test_links_are_taken_out_in_both_directions() -> None:
    graph, dense = random_graph()
    pairs = graph.edge_index[:, :3]
    left = graph.without(pairs)
    dense[pairs[0], pairs[1]] = dense[pairs[1], pairs[0]] = False
    assert torch.equal(left.edge_index, dense.nonzero().T)


def test_a_thinned_graph_keeps_about_its_share() -> None:
    graph, _ = random_graph(200, 3000)
    torch.manual_seed(0)
    kept = graph.thinned(0.25).edge_index.shape[1] / graph.edge_index.shape[1]
    assert kept == pytest.approx(0.75, abs=0.03)


def test_unknown_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"outside 0 \.\. 2"):
        Neighbours(torch.tensor([[0], [3]]), 3)
