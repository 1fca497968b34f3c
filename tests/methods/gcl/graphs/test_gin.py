import pytest
import torch
from torch import nn

from methods.gcl.graphs.adgcl import WeightedGIN
from methods.gcl.graphs.gin import GIN, MLPEncoder, projection_head, reset_linear
from retable.nn.graph_batch import GraphBatch, select_graphs


@pytest.fixture
def batch() -> GraphBatch:
    """A path, an isolated node, a triangle with a tail: nothing in order."""
    torch.manual_seed(0)
    links = [(0, 1), (1, 2), (4, 5), (5, 6), (4, 6), (6, 7)]
    edges = torch.tensor([pair for a, b in links for pair in ((b, a), (a, b))]).T
    return GraphBatch(torch.randn(8, 3), edges, torch.tensor([0, 0, 0, 1, 2, 2, 2, 2]), 3)


def encoders() -> list[nn.Module]:
    torch.manual_seed(1)
    return [GIN(3, 4, 3), MLPEncoder(3, 4), WeightedGIN(3, 4, 2)]


def test_gin_equals_a_loop_over_nodes(batch):
    encoder = GIN(3, 4, 2).eval()
    for norm in encoder.bns:
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    h, hidden = batch.x, []
    for conv, norm in zip(encoder.convs, encoder.bns, strict=True):
        rows = []
        for node in range(8):
            total = h[node].clone()
            for source, target in batch.edge_index.T.tolist():
                if target == node:
                    total += h[source]
            rows.append(conv.nn(total).relu())
        h = norm(torch.stack(rows))
        hidden.append(h)
    expected = torch.cat(hidden, dim=1)
    pooled, layers = encoder(batch)
    torch.testing.assert_close(torch.cat(layers, dim=1), expected)
    torch.testing.assert_close(pooled[1], expected[3])
    torch.testing.assert_close(pooled[2], expected[4:].sum(0))


@pytest.mark.parametrize("encoder", encoders(), ids=lambda encoder: type(encoder).__name__)
def test_encoders_do_not_see_the_order_of_nodes_and_edges(encoder, batch):
    encoder.eval()
    order = torch.tensor([2, 0, 1, 3, 7, 5, 4, 6])  # within graphs
    place = torch.argsort(order)
    edges = place[batch.edge_index][:, torch.randperm(batch.edge_index.shape[1])]
    moved = GraphBatch(batch.x[order], edges, batch.node_graph, 3)
    pooled, nodes = encoder(batch)
    pooled_moved, nodes_moved = encoder(moved)
    torch.testing.assert_close(pooled_moved, pooled)
    layers, layers_moved = ([side] if isinstance(side, torch.Tensor) else side for side in (nodes, nodes_moved))
    for layer, moved_layer in zip(layers, layers_moved, strict=True):
        torch.testing.assert_close(moved_layer, layer[order])
    assert pooled.shape == (3, encoder.width)


@pytest.mark.parametrize("encoder", encoders(), ids=lambda encoder: type(encoder).__name__)
def test_graphs_of_a_batch_do_not_touch_each_other(encoder, batch):
    encoder.eval()
    together = encoder(batch)[0]
    for graph in range(3):
        torch.testing.assert_close(encoder(select_graphs(batch, torch.tensor([graph])))[0], together[[graph]])


def test_the_mlp_looks_at_no_edge(batch):
    encoder = MLPEncoder(3, 4).eval()
    bare = GraphBatch(batch.x, torch.empty(2, 0, dtype=torch.long), batch.node_graph, 3)
    torch.testing.assert_close(encoder(bare)[0], encoder(batch)[0])


def test_weights_of_one_change_nothing_and_zero_cuts_the_edge(batch):
    encoder = WeightedGIN(3, 4, 2).eval()
    edges = batch.edge_index.shape[1]
    torch.testing.assert_close(encoder(batch, torch.ones(edges))[1], encoder(batch)[1])
    kept = torch.arange(edges) >= 4
    fewer = GraphBatch(batch.x, batch.edge_index[:, kept], batch.node_graph, 3)
    torch.testing.assert_close(encoder(batch, kept.float())[1], encoder(fewer)[1])


def test_graphs_without_nodes_or_edges_are_zero_or_their_nodes(batch):
    encoder = GIN(3, 4, 2).eval()
    empty = GraphBatch(batch.x[:1], torch.empty(2, 0, dtype=torch.long), torch.tensor([1]), 3)
    pooled = encoder(empty)[0]
    assert torch.equal(pooled[[0, 2]], torch.zeros(2, 8))
    assert pooled[1].isfinite().all()


def test_linear_layers_start_glorot_uniform_with_zero_bias():
    head = projection_head(200)
    reset_linear(head)
    bound = (6 / 400) ** 0.5
    for layer in (head[0], head[2]):
        assert not layer.bias.any()
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.detach().std() == pytest.approx(bound / 3**0.5, rel=0.05)
