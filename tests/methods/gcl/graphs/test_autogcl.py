import pytest
import torch

from methods.gcl.graphs.autogcl import DEGREE_CAP, AutoGCL, ViewGenerator, view, with_degrees
from methods.gcl.losses import TERMS
from retable.nn.graph_batch import GraphBatch


@pytest.fixture
def batch() -> GraphBatch:
    edges = torch.tensor([[0, 1, 1, 2, 3, 4, 4, 5], [1, 0, 2, 1, 4, 3, 5, 4]])
    torch.manual_seed(0)
    return GraphBatch(torch.randn(7, 3), edges, torch.tensor([0, 0, 0, 1, 1, 1, 1]), 2)


def test_a_view_hides_nodes_and_their_edges_but_keeps_their_places(batch):
    keep = torch.tensor([1.0, 0, 1, 1, 1, 1, 0])
    seen = view(batch, keep)
    assert seen.edge_index.T.tolist() == [[3, 4], [4, 3], [4, 5], [5, 4]]
    assert not seen.x[[1, 6]].any()
    assert torch.equal(seen.x[[0, 2]], batch.x[[0, 2]])
    assert seen.graphs == 2


def test_decisions_are_hard_and_carry_gradients(batch):
    generator = ViewGenerator(3, 4)
    keep = generator(batch)
    assert set(keep.detach().tolist()) <= {0.0, 1.0}
    (keep * torch.randn(7)).sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


@pytest.mark.parametrize("terms", TERMS)
def test_losses_are_finite_and_reach_encoder_and_generators(terms, batch, graph_settings):
    torch.manual_seed(3)
    model = AutoGCL(3, graph_settings(method="autogcl", loss=terms))
    losses = [model.loss(batch) for _ in range(20)]
    torch.stack(losses).sum().backward()
    assert all(loss.isfinite() for loss in losses)
    for module in (model.encoder, *model.generators):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


def test_degrees_stand_beside_the_features(batch):
    rich = with_degrees(batch)
    assert rich.x.shape == (7, 3 + 1 + DEGREE_CAP + 1)
    assert rich.x[:, 3].tolist() == [1, 2, 1, 1, 2, 1, 0]
    assert rich.x[:, 4:].argmax(1).tolist() == [1, 2, 1, 1, 2, 1, 0]
    star = torch.stack([torch.arange(1, 151), torch.zeros(150, dtype=torch.long)])
    hub = with_degrees(GraphBatch(torch.zeros(151, 1), star, torch.zeros(151, dtype=torch.long), 1))
    assert hub.x[0, 1] == 150
    assert hub.x[0, 2:].argmax() == DEGREE_CAP
