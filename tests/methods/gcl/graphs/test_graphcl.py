"""GraphCL's two views and its loss on small batches of graphs."""

import math

import pytest
import torch

from methods.gcl.graphs.graphcl import AUGMENTATIONS, GraphCL, two_views
from methods.gcl.losses import TERMS
from methods.gcl.settings import GraphSettings
from retable.nn.graph_batch import GraphBatch, select_graphs, with_self_loops

SIZES = [9, 1, 12, 5]


@pytest.fixture
def batch() -> GraphBatch:
    """Rings of SIZES nodes with chords, and the authors' self-loops; the second graph has no edge."""
    torch.manual_seed(0)
    links, first = set(), 0
    for size in SIZES:
        ends = [(first + a, first + (a + step) % size) for a in range(size) for step in (1, 3) if size > 1]
        links |= {pair for a, b in ends for pair in ((a, b), (b, a))}
        first += size
    node_graph = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    return with_self_loops(GraphBatch(torch.randn(first, 2), torch.tensor(sorted(links)).T, node_graph, len(SIZES)))


@pytest.fixture
def model(graph_settings) -> GraphCL:
    return model_of(graph_settings())


def model_of(settings: GraphSettings) -> GraphCL:
    torch.manual_seed(1)
    return GraphCL(2, settings).double().eval()


def test_the_authors_noise_makes_both_views_the_same(batch):
    first, second = two_views(batch, "noise", 0.1, 1e-4, official_quirks=True)
    assert first is second
    assert not torch.equal(first.x, batch.x)
    first, second = two_views(batch, "noise", 0.1, 1e-4)
    assert first is batch
    assert not torch.equal(second.x, batch.x)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_views_keep_the_number_of_graphs_and_follow_the_seed(augmentation, batch):
    made = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        made.append(two_views(batch, augmentation, 0.2, 1e-4)[1])
    assert all(view.graphs == len(SIZES) for view in made)
    assert torch.equal(made[0].x, made[1].x)
    assert torch.equal(made[0].edge_index, made[1].edge_index)
    if augmentation != "none":
        other = made[2]
        assert not (torch.equal(made[0].x, other.x) and torch.equal(made[0].edge_index, other.edge_index))


def test_an_unknown_augmentation_is_named(batch):
    with pytest.raises(ValueError, match="unknown augmentation 'dnodes'"):
        two_views(batch, "dnodes", 0.1, 0.0)


def test_the_first_view_is_the_batch_and_augmentations_do_to_the_second_what_their_names_say(batch):
    made = {name: two_views(batch, name, 0.4, 1e-4) for name in AUGMENTATIONS}
    assert all(first is batch for first, _ in made.values())
    assert made["none"][1] is batch
    kept = {name: (len(second.x), second.edge_index.shape[1]) for name, (_, second) in made.items()}
    nodes, edges = kept["none"]
    assert kept["noise"] == kept["mask-attributes"] == (nodes, edges)
    masked = (made["mask-attributes"][1].x != batch.x).any(1)
    assert torch.bincount(batch.node_graph[masked], minlength=4).tolist() == [int(0.4 * size) for size in SIZES]
    for name in ("drop-nodes", "drop-edges", "subgraph"):
        assert kept[name][1] < edges, name
        assert set(map(tuple, made[name][1].x.tolist())) <= set(map(tuple, batch.x.tolist())), name


@pytest.mark.parametrize("terms", TERMS)
def test_the_loss_is_that_of_cosines_between_the_projections_of_both_views(terms, batch, graph_settings):
    model = model_of(graph_settings(loss=terms, tau=0.3))
    batch = GraphBatch(batch.x.double(), batch.edge_index, batch.node_graph, batch.graphs)
    torch.manual_seed(2)
    views = two_views(batch, "mask-attributes", 0.4, 0.0)
    x, y = (model(view).detach() for view in views)
    assert x.shape == (4, model.encoder.width)

    def s(i: int, j: int) -> float:
        return float(x[i] @ y[j] / (x[i].norm() * y[j].norm())) / 0.3

    pushes = [math.log(sum(math.exp(s(i, j)) for j in range(4) if j != i)) for i in range(4)]
    pulls = [s(i, i) for i in range(4)]
    expected = {
        "contrast": sum(pushes) - sum(pulls),
        "no-positives": sum(pushes),
        "no-negatives": -sum(pulls),
    }[terms]
    assert float(model.contrast(*views)) == pytest.approx(expected / 4, rel=1e-9)


def test_projections_follow_the_order_of_graphs_and_see_no_other_graph(batch, model):
    batch = GraphBatch(batch.x.double(), batch.edge_index, batch.node_graph, batch.graphs)
    whole = model(batch)
    order = torch.tensor([2, 0, 3])
    assert torch.allclose(model(select_graphs(batch, order)), whole[order])


def test_every_linear_layer_starts_with_zero_bias_within_glorots_bound(model):
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert len(layers) == 2 * 2 + 2
    for layer in layers:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert not layer.bias.any()
        assert bound / 2 < float(layer.weight.detach().abs().max()) <= bound
