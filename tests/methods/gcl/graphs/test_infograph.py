import pytest
import torch

from methods.gcl.graphs.infograph import FeedForward, InfoGraph
from methods.gcl.losses import TERMS, infograph_loss
from retable.nn.graph_batch import GraphBatch, wl_classes


def test_the_shortcut_is_linear_and_stands_beside_three_layers():
    torch.manual_seed(0)
    head, x = FeedForward(4), torch.randn(5, 4)
    h = x
    for place in (0, 2, 4):
        h = torch.relu(head.block[place](h))
    torch.testing.assert_close(head(x), h + head.linear_shortcut(x))


def test_training_pulls_nodes_to_their_graph(graph_settings):
    torch.manual_seed(0)
    links = [(0, 1), (1, 2), (3, 4), (4, 5), (5, 3), (6, 7)]
    edges = torch.tensor([pair for a, b in links for pair in ((a, b), (b, a))]).T
    batch = GraphBatch(torch.randn(8, 3), edges, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2]), 3)
    model = InfoGraph(3, graph_settings(method="infograph", hidden=8))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    before = model.loss(batch).item()
    for _ in range(30):
        optimiser.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimiser.step()
    assert loss.item() < before - 0.5
    pooled, layers = model.encoder(batch)
    scores = model.local_head(torch.cat(layers, dim=1)) @ model.global_head(pooled).T
    assert (scores.argmax(1) == batch.node_graph).all()


@pytest.mark.parametrize("terms", TERMS)
def test_scoring_alike_nodes_once_changes_neither_loss_nor_gradients(terms, graph_settings):
    torch.manual_seed(0)
    ring = [(i, (i + 1) % 6) for i in range(6)]
    links = [*ring, (6, 7), (7, 8), (8, 9), (9, 6), (6, 8), (10, 11)]
    edges = torch.tensor([pair for a, b in links for pair in ((a, b), (b, a))]).T
    graph = torch.tensor([0] * 6 + [1] * 4 + [2] * 2)
    batch = GraphBatch(torch.ones(12, 1, dtype=torch.float64), edges, graph, 3)
    assert len(wl_classes(batch, 3)[0]) == 4
    model = InfoGraph(1, graph_settings(method="infograph", loss=terms, hidden=8, layers=3)).double()
    found = model.loss(batch)
    pooled, layers = model.encoder(batch)
    expected = infograph_loss(model.local_head(torch.cat(layers, 1)), model.global_head(pooled), graph, terms)
    torch.testing.assert_close(found, expected)
    for a, b in zip(*(torch.autograd.grad(loss, list(model.parameters())) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)
