import torch

from methods.gcl.gin import GIN
from methods.gcl.graph_batch import GraphBatch
from methods.gcl.infograph import FeedForward, InfoGraph


def test_the_shortcut_is_linear_and_stands_beside_three_layers():
    torch.manual_seed(0)
    head, x = FeedForward(4), torch.randn(5, 4)
    h = x
    for place in (0, 2, 4):
        h = torch.relu(head.block[place](h))
    torch.testing.assert_close(head(x), h + head.linear_shortcut(x))


def test_training_pulls_nodes_to_their_graph():
    torch.manual_seed(0)
    links = [(0, 1), (1, 2), (3, 4), (4, 5), (5, 3), (6, 7)]
    edges = torch.tensor([pair for a, b in links for pair in ((a, b), (b, a))]).T
    batch = GraphBatch(torch.randn(8, 3), edges, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2]), 3)
    model = InfoGraph(GIN(3, 8, 2))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    before = model.loss(batch, "contrast").item()
    for _ in range(30):
        optimiser.zero_grad()
        loss = model.loss(batch, "contrast")
        loss.backward()
        optimiser.step()
    assert loss.item() < before - 0.5
    pooled, layers = model.encoder(batch)
    scores = model.local_head(torch.cat(layers, dim=1)) @ model.global_head(pooled).T
    assert (scores.argmax(1) == batch.node_graph).all()
