import pytest
import torch

from methods.gcl.graphs.augment import (
    add_noise,
    choose_nodes,
    cut,
    drop_edges,
    drop_nodes,
    kept_nodes,
    mask_attributes,
    ranks,
    shared_uniform_noise,
    subgraph,
)
from retable.nn.graph_batch import GraphBatch, with_self_loops

SIZES = [9, 1, 30, 12, 4]


@pytest.fixture
def batch() -> GraphBatch:
    """Graphs of SIZES nodes on a ring with chords and the authors' self-loops; the second has no edge."""
    torch.manual_seed(0)
    edges, first = [], 0
    for size in SIZES:
        for node in range(size if size > 1 else 0):
            for step in (1, 3):
                edges += [(first + node, first + (node + step) % size)]
        first += size
    pairs = {pair for a, b in edges for pair in ((a, b), (b, a)) if a != b}
    node_graph = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    edge_index = torch.tensor(sorted(pairs)).T
    return with_self_loops(GraphBatch(torch.randn(first, 2), edge_index, node_graph, len(SIZES)))


@pytest.fixture
def where() -> torch.Tensor:
    return torch.tensor([True, True, True, False, True])


def per_graph(mask: torch.Tensor, graph: torch.Tensor) -> list[int]:
    return torch.bincount(graph[mask], minlength=len(SIZES)).tolist()


def test_ranks_count_within_groups():
    keys = torch.tensor([0.3, 0.1, 0.2, 0.9, 0.5])
    assert ranks(keys, torch.tensor([1, 0, 1, 1, 0]), 3).tolist() == [1, 0, 0, 2, 1]


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 1.0])
def test_nodes_are_chosen_by_share_and_where_asked(ratio, batch, where):
    chosen = choose_nodes(batch, ratio, where)
    assert per_graph(chosen, batch.node_graph) == [
        int(ratio * size) * bool(there) for size, there in zip(SIZES, where, strict=True)
    ]


def test_all_nodes_are_equally_likely(batch):
    everywhere = torch.ones(len(SIZES), dtype=torch.bool)
    share = torch.stack([choose_nodes(batch, 0.3, everywhere) for _ in range(3000)]).double().mean(0)
    expected = torch.tensor([int(0.3 * size) / size for size in SIZES])[batch.node_graph]
    torch.testing.assert_close(share, expected.double(), atol=0.05, rtol=0)


def test_dropped_nodes_take_their_edges_along(batch, where):
    kept = drop_nodes(batch, 0.3, where)
    torch.manual_seed(1)
    kept = drop_nodes(batch, 0.3, where)
    torch.manual_seed(1)
    dropped = choose_nodes(batch, 0.3, where)
    for (a, b), survives in zip(batch.edge_index.T.tolist(), kept.tolist(), strict=True):
        assert survives == (not dropped[a] and not dropped[b])


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_edges_are_dropped_by_share(ratio, batch, where):
    counts = per_graph(torch.ones(len(batch.edge_graph), dtype=torch.bool), batch.edge_graph)
    kept = per_graph(drop_edges(batch, ratio, where), batch.edge_graph)
    assert kept == [count - int(ratio * count) * bool(there) for count, there in zip(counts, where, strict=True)]


def test_a_subgraph_is_a_node_and_some_of_its_neighbours(batch, where):
    neighbours = {node: set() for node in range(len(batch.x))}
    for a, b in batch.edge_index.T.tolist():
        neighbours[a].add(b)
    for target in (0.2, 0.8):
        kept = subgraph(batch, target, where)
        assert (kept | where[batch.edge_graph]).all()
        alive = kept_nodes(batch, kept)
        for graph, size in enumerate(SIZES):
            if not where[graph] or size == 1:
                continue
            nodes = set((alive & (batch.node_graph == graph)).nonzero().squeeze(1).tolist())
            assert len(nodes) <= int(target * size) + 1
            assert not nodes or any(nodes <= neighbours[first] | {first} for first in nodes)


def test_masked_rows_alone_change(batch, where):
    masked = mask_attributes(batch, 0.3, where)
    changed = (masked.x != batch.x).any(dim=1)
    assert per_graph(changed, batch.node_graph) == [2, 0, 9, 0, 1]
    assert torch.equal(masked.edge_index, batch.edge_index)


def test_a_cut_leaves_nodes_with_an_edge_or_a_loop_and_no_loops(batch, where):
    kept = drop_nodes(batch, 0.3, where)
    view = cut(batch, kept)
    surviving = kept_nodes(batch, kept)
    ends = {end for edge in batch.edge_index[:, kept].T.tolist() for end in edge}
    assert set(surviving.nonzero().squeeze(1).tolist()) == ends
    torch.testing.assert_close(view.x, batch.x[surviving])
    assert (view.edge_index[0] != view.edge_index[1]).all()
    back = surviving.nonzero().squeeze(1)[view.edge_index].T.tolist()
    assert back == [[a, b] for a, b in batch.edge_index[:, kept].T.tolist() if a != b]
    assert view.graphs == len(SIZES)  # the graph without edges is still counted, with no node left
    assert per_graph(torch.ones(len(view.x), dtype=torch.bool), view.node_graph)[1] == 0


def test_noise_has_the_variance_it_is_given():
    x = torch.zeros(20000, 2)
    batch = GraphBatch(x, torch.empty(2, 0, dtype=torch.long), torch.zeros(20000, dtype=torch.long), 1)
    torch.manual_seed(0)
    noise = add_noise(batch, 0.04).x
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.var()) == pytest.approx(0.04, rel=0.05)
    quirk = shared_uniform_noise(batch, 0.04).x
    assert 0 <= float(quirk.min()) < float(quirk.max()) <= 0.2
