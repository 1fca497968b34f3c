"""The whole model."""

import pytest
import torch

from methods.gind.implicit import Diffusion, node_scale
from methods.gind.model import GIND, Iterations, graph_sums

EDGES = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
GRAPH = Diffusion(EDGES, node_scale(EDGES, 5, self_loops=False))


def model(**options) -> GIND:
    torch.manual_seed(0)
    return GIND(4, 6, 3, layers=1, alpha=0.3, **{"iterations": Iterations(5, 2)} | options)


def test_the_last_steps_alone_pass_on_gradients() -> None:
    torch.manual_seed(1)
    x = torch.rand(5, 4)
    made = model().eval()
    h = made.encode(x)
    start = model(iterations=Iterations(3, 0)).eval().iterate(h, GRAPH)
    z = start.detach()
    for _ in range(2):
        z = made.layers[0](h, GRAPH)(z)
    torch.testing.assert_close(made.iterate(h, GRAPH), z)
    one, two = (
        torch.autograd.grad(out.sum(), made.layers[0].W.weight, retain_graph=True)[0]
        for out in (z, made.iterate(h, GRAPH))
    )
    torch.testing.assert_close(one, two)


def test_without_iterations_it_is_an_mlp() -> None:
    made = model(iterations=Iterations(0, 0)).eval()
    x = torch.rand(5, 4)
    torch.testing.assert_close(made(x, GRAPH), made.out(made.encoder(x)))


def test_the_changes_of_the_state_are_noted() -> None:
    changes: list[float] = []
    made = model().eval()
    made.iterate(made.encode(torch.rand(5, 4)), GRAPH, changes)
    assert len(changes) == 5
    assert changes[0] == pytest.approx(1.0)


def test_a_mask_is_kept_over_the_iterations() -> None:
    made = model(implicit_dropout=0.5).train()
    torch.manual_seed(3)
    assert made._mask(torch.ones(5, 6)).unique().tolist() == [0.0, 2.0]
    assert made.eval()._mask(torch.ones(5, 6)) is None


def test_graphs_are_summed() -> None:
    owner = torch.tensor([0, 0, 0, 1, 1])
    graph = Diffusion(EDGES, node_scale(EDGES, 5, self_loops=False), owner, graphs=2)
    states = torch.arange(10.0).view(5, 2)
    assert graph_sums(states, graph).tolist() == [[6.0, 9.0], [14.0, 16.0]]
    with pytest.raises(ValueError, match="the graph of each node"):
        graph_sums(states, GRAPH)


def test_more_steps_with_gradients_than_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="3 steps with gradients of 2"):
        model(iterations=Iterations(2, 3))
