"""Networks that read an encoding."""

import torch

from methods.map.networks import GatedGCNLayer, GraphClassifier, Trunk
from methods.map.settings import ClassifySettings
from retable.nn.graph_batch import GraphBatch

FIELDS = {
    "k": 3,
    "hidden": 8,
    "layers": 2,
    "trunk_layers": 2,
    "trunk_hidden": 4,
    "dropout": 0.0,
    "lr": 0.01,
    "epochs": 1,
    "batch_size": 2,
}


def batch() -> GraphBatch:
    edges = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
    return GraphBatch(torch.ones(5, 2), edges, torch.tensor([0, 0, 0, 1, 1]), 2)


def test_an_even_trunk_does_not_see_signs_and_the_plain_one_does() -> None:
    torch.manual_seed(0)
    columns, flip = torch.randn(5, 3), torch.tensor([1.0, -1.0, 1.0])
    even, plain = Trunk(3, 4, 2, even=True).eval(), Trunk(3, 4, 2, even=False).eval()
    torch.testing.assert_close(even(columns, batch()), even(columns * flip, batch()))
    assert not torch.allclose(plain(columns, batch()), plain(columns * flip, batch()))


def test_columns_beyond_a_graphs_size_are_masked() -> None:
    torch.manual_seed(0)
    columns, other = torch.randn(5, 3), torch.randn(5, 3)
    other[:, :2] = columns[:, :2]
    trunk = Trunk(3, 4, 2, even=False).eval()
    mine, theirs = trunk(columns, batch()), trunk(other, batch())
    torch.testing.assert_close(mine[3:], theirs[3:])
    assert not torch.allclose(mine[:3], theirs[:3])


def test_a_gated_layer_is_its_formula() -> None:
    torch.manual_seed(0)
    layer, graphs = GatedGCNLayer(4).eval(), batch()
    h, e = torch.randn(5, 4), torch.randn(6, 4)
    new_h, new_e = layer(h, e, graphs)
    source, target = graphs.edge_index
    for node in range(5):
        incoming = (target == node).nonzero()[:, 0]
        gates = [layer.D(h[source[i]]) + layer.E(h[node]) + layer.C(e[i]) for i in incoming]
        up = sum(torch.sigmoid(g) * layer.B(h[source[i]]) for g, i in zip(gates, incoming, strict=True))
        down = sum(torch.sigmoid(g) for g in gates) + 1e-6
        expected = h[node] + torch.relu((layer.A(h[node]) + up / down) / (1 + 1e-5) ** 0.5)
        torch.testing.assert_close(new_h[node], expected)
    assert new_e.shape == e.shape


def test_logits_do_not_depend_on_the_order_of_nodes() -> None:
    torch.manual_seed(0)
    graphs, order = batch(), torch.tensor([2, 0, 1, 4, 3])
    place = order.argsort()
    moved = GraphBatch(graphs.x[order], place[graphs.edge_index], graphs.node_graph[order], 2)
    columns = torch.randn(5, 3)
    for model in ("gin", "gatedgcn"):
        made = GraphClassifier(2, 3, ClassifySettings(model=model, encoding="map", **FIELDS)).eval()
        torch.testing.assert_close(made(graphs, columns), made(moved, columns[order]))
