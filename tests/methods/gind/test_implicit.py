"""The implicit layer."""

import pytest
import torch
from torch import Tensor

from methods.gind.implicit import (
    Diffusion,
    ImplicitLayer,
    SignNorm,
    cut,
    node_scale,
    regularised,
    regulariser,
    reversible,
)

EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 0, 3], [1, 0, 2, 1, 3, 2, 3, 0]])


def diffusion(nodes: int = 5) -> Diffusion:
    return Diffusion(EDGES, node_scale(EDGES, nodes, self_loops=False).double())


def one_way() -> Diffusion:
    return Diffusion(EDGES[:, ::2], node_scale(EDGES, 5, self_loops=False).double())


def test_isolated_nodes_have_no_scale_and_loops_count_once_more() -> None:
    assert node_scale(EDGES, 5, self_loops=False)[:, 0].tolist() == [0.5, 0.5, 0.5, 0.5, 0.0]
    assert node_scale(EDGES, 5, self_loops=True)[4].item() == pytest.approx(0.5**0.5)


def test_the_cut_graph_has_each_link_once() -> None:
    edges, scale = cut(EDGES, 5, self_loops=False)
    assert edges.tolist() == [[0, 0, 1, 2], [1, 3, 2, 3]]
    assert scale[:, 0].tolist() == pytest.approx([0.5**0.5] * 4 + [0.0])


def test_the_two_operators_are_transposes() -> None:
    torch.manual_seed(0)
    for graph, copies in ((diffusion(), 2), (one_way(), 1)):
        y, e = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
        torch.testing.assert_close(copies * (graph.differences(y) * e).sum(), (y * graph.gather(e)).sum())
        source, target = graph.links
        torch.testing.assert_close(graph.differences(y), (graph.s * y)[source] - (graph.s * y)[target])


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        (EDGES, True),
        (EDGES[:, ::2], False),
        (torch.cat([EDGES, torch.tensor([[2], [2]])], 1), False),  # a loop counts once in the deviation
        (torch.cat([EDGES, EDGES[:, :1]], 1), False),
        (torch.cat([EDGES, EDGES], 1), True),
    ],
)
def test_a_graph_is_reversible_if_each_edge_comes_with_its_reverse(edges: Tensor, expected: bool) -> None:
    assert reversible(edges, 5) is expected
    assert Diffusion(edges, node_scale(edges, 5, self_loops=False)).copies == 1 + expected


@pytest.mark.parametrize("norm", ["LayerNorm", "InstanceNorm"])
@pytest.mark.parametrize("owner", [None, torch.tensor([0, 0, 0, 0, 1, 1, 1])])
def test_half_of_a_reversible_graphs_edges_tell_all(norm: str, owner: Tensor | None, monkeypatch) -> None:
    torch.manual_seed(0)
    edges = torch.cat([EDGES, torch.tensor([[4, 5, 5, 6], [5, 4, 6, 5]])], 1)
    scale, graphs = node_scale(edges, 7, self_loops=False).double(), 1 if owner is None else 2
    half = Diffusion(edges, scale, owner, graphs)
    monkeypatch.setattr("methods.gind.implicit.reversible", lambda *_: False)
    whole = Diffusion(edges, scale, owner, graphs)
    assert (half.links.shape[1], whole.links.shape[1]) == (6, 12)
    layer = ImplicitLayer(3, 0.5, norm, double=True, rescale=True).double()
    z, x = (torch.randn(7, 3, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(*(layer(x, graph)(z) for graph in (half, whole)))
    torch.testing.assert_close(half.laplacian.csr.to_dense(), whole.laplacian.csr.to_dense())
    torch.testing.assert_close(regulariser("Lap", z, half), regulariser("Lap", z, whole))


@pytest.mark.parametrize("kind", ["LayerNorm", "InstanceNorm"])
@pytest.mark.parametrize("graphs", [1, 2])
def test_norms_keep_signs(kind: str, graphs: int) -> None:
    torch.manual_seed(0)
    e = torch.randn(8, 3)
    owner = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1]) if graphs == 2 else None
    assert torch.equal(SignNorm(kind, 3)(e, owner, graphs).sign(), e.sign())


@pytest.mark.parametrize("kind", ["LayerNorm", "InstanceNorm"])
@pytest.mark.parametrize("owner", [None, torch.zeros(4, dtype=torch.long)], ids=["one graph", "a set"])
@pytest.mark.parametrize(
    "edges",
    [torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]), torch.tensor([[0, 2], [1, 3]]), torch.zeros(2, 0, dtype=torch.long)],
    ids=["both ways", "one way", "none"],
)
def test_where_nothing_flows_gradients_are_finite(kind: str, owner: Tensor | None, edges: Tensor) -> None:
    """Nodes alike of the same degree have no differences, a graph without edges has none to take a deviation of."""
    graph = Diffusion(edges, torch.ones(4, 1), owner)
    layer = ImplicitLayer(3, 0.5, kind, double=True, rescale=False)
    out = layer(torch.ones(4, 3), graph)(torch.zeros(4, 3))
    assert torch.equal(out, torch.zeros(4, 3))
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_what_flows_out_of_all_nodes_is_nothing() -> None:
    torch.manual_seed(0)
    graph, flow = diffusion(), torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close((graph.degree * graph.gather(flow)).sum(0), torch.zeros(3, dtype=torch.float64))


class Nothing(torch.nn.Module):
    """A norm that does nothing."""

    def forward(self, e: Tensor, *_: object) -> Tensor:
        return e


def test_without_norm_the_step_descends_a_convex_function() -> None:
    """new = -d/dz sum over edges and channels of log cosh(G (W z + x / s))."""
    torch.manual_seed(0)
    graph = one_way()
    layer = ImplicitLayer(3, 1.0, "LayerNorm", double=False, rescale=True).double()
    layer.norm = Nothing()
    z, x = (torch.randn(5, 3, dtype=torch.float64) for _ in range(2))
    z.requires_grad_()
    potential = torch.log(torch.cosh(graph.differences(layer.W(z + graph.degree * x)))).sum()
    torch.testing.assert_close(layer(x, graph)(z), -torch.autograd.grad(potential, z)[0])


def test_a_regularised_step_lowers_the_regulariser() -> None:
    torch.manual_seed(0)
    graph, z = diffusion(), torch.randn(5, 3, dtype=torch.float64)
    for kind in ("Lap", "Dec"):
        before = regulariser(kind, z, graph)
        assert regulariser(kind, regularised(kind, z, graph, 0.1), graph) < before
    assert regularised("none", z, graph, 0.1) is z


def test_gradients_pass_through_a_regularised_step_where_they_are_wanted() -> None:
    torch.manual_seed(0)
    graph, z = diffusion(), torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def step(z: Tensor) -> Tensor:
        return regularised("Lap", z, graph, 0.3)

    assert torch.autograd.gradcheck(step, z)
    with torch.no_grad():
        assert not step(z).requires_grad
