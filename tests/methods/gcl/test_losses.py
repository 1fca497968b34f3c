"""Each loss against its definition pair by pair; on nodes first, then on graphs."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.gcl.losses import (
    TERMS,
    directed_losses,
    discrimination_loss,
    graphcl_loss,
    infograph_loss,
    node_losses,
    sampled_losses,
    symmetric_loss,
    weighted_losses,
)

TAU = 0.4


def views(n: int = 23, d: int = 7, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, d, dtype=dtype, generator=generator).requires_grad_() for _ in range(2))


def by_definition(h1: Tensor, h2: Tensor, tau: float, terms: str) -> Tensor:
    """One direction, pair by pair."""
    u, v = F.normalize(h1), F.normalize(h2)
    values = []
    for i in range(len(u)):
        inside = [(u[i] @ u[j] / tau).exp() for j in range(len(u)) if j != i]
        total = (sum(inside) + sum((u[i] @ v[j] / tau).exp() for j in range(len(u)))).log()
        pull = u[i] @ v[i] / tau
        values.append({"contrast": total - pull, "no-positives": total, "no-negatives": -pull}[terms])
    return torch.stack(values)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("tau", [0.1, 0.7])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_equals_the_definition_and_its_gradient(terms: str, tau: float, n: int) -> None:
    h1, h2 = views(n)
    expected = (by_definition(h1, h2, tau, terms) + by_definition(h2, h1, tau, terms)) / 2
    actual = node_losses(h1, h2, tau, terms)
    torch.testing.assert_close(actual, expected)
    weights = torch.linspace(1, 2, n, dtype=actual.dtype)
    ours = torch.autograd.grad((actual * weights).sum(), [h1, h2])
    theirs = torch.autograd.grad((expected * weights).sum(), [h1, h2])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_halves_recombine_to_contrast() -> None:
    h1, h2 = views()
    for whole, push, pull in zip(*(directed_losses(h1, h2, 0.4, terms) for terms in TERMS), strict=True):
        torch.testing.assert_close(whole, push + pull)


def test_the_same_tensor_twice_equals_equal_views() -> None:
    h1, _ = views()
    twin = h1.detach().clone().requires_grad_()
    apart = node_losses(h1, twin, 0.5).mean()
    together = node_losses(h1, h1, 0.5).mean()
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(torch.autograd.grad(together, h1)[0], sum(torch.autograd.grad(apart, [h1, twin])))


def test_order_of_nodes_and_of_views_does_not_matter() -> None:
    h1, h2 = views()
    order = torch.randperm(len(h1), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(node_losses(h1[order], h2[order], 0.5), node_losses(h1, h2, 0.5)[order])
    torch.testing.assert_close(node_losses(h2, h1, 0.5), node_losses(h1, h2, 0.5))


def test_scale_of_rows_does_not_matter_and_bounds_hold() -> None:
    h1, h2 = views()
    n, tau = len(h1), 0.5
    push = node_losses(h1, h2, tau, "no-positives")
    torch.testing.assert_close(node_losses(3 * h1, 0.1 * h2, tau, "no-positives"), push)
    bound = torch.tensor(2.0 * n - 1, dtype=push.dtype).log()
    assert bool((push <= bound + 1 / tau).all())
    assert bool((push >= bound - 1 / tau).all())
    assert bool((node_losses(h1, h2, tau) >= 0).all())  # the positive is one of its own candidates


def test_zero_rows_give_finite_losses_and_gradients() -> None:
    h1, h2 = views()
    with torch.no_grad():
        h1[3] = 0
    edges = torch.tensor([[0], [1]])
    values = [node_losses(h1, h2, 0.5, terms) for terms in TERMS]
    for loss in (*values, node_losses(h1, h2, 0.5, neighbours=(edges, edges))):
        value = loss.mean()
        assert all(g.isfinite().all() for g in torch.autograd.grad(value, [h1, h2]))


def test_float32_at_low_temperature_is_finite_and_close() -> None:
    h1, h2 = views(200, 16)
    for tau in (0.02, 0.1):
        exact = node_losses(h1, h2, tau)
        torch.testing.assert_close(node_losses(h1.float(), h2.float(), tau).double(), exact, rtol=1e-4, atol=1e-4)


def test_neighbours_are_the_positives() -> None:
    h1, h2 = views(5)
    edges = torch.tensor([[0, 0, 1], [1, 1, 2]])  # a repeated edge counts once
    u, v = F.normalize(h1), F.normalize(h2)
    kernel, total = (u @ v.t() / 0.5).exp(), directed_losses(h1, h2, 0.5, "no-positives")[0]
    positives = [{0, 1}, {1, 2}, {2}, {3}, {4}]
    expected = torch.stack([(sum(kernel[i, j] for j in js) / 5).log() for i, js in enumerate(positives)])
    actual = directed_losses(h1, h2, 0.5, neighbours=(edges, edges))[0]
    torch.testing.assert_close(actual, total - expected)


def test_neighbours_without_edges_are_the_nodes_themselves() -> None:
    h1, h2 = views()
    none = torch.empty(2, 0, dtype=torch.long)
    actual = node_losses(h1, h2, 0.5, neighbours=(none, none))
    n = torch.tensor(float(len(h1)), dtype=actual.dtype)
    torch.testing.assert_close(actual, node_losses(h1, h2, 0.5) + n.log())


def test_sampled_loss_is_the_loss_of_the_sample() -> None:
    h1, h2 = views()
    some, others = torch.arange(8), torch.arange(5, 13)
    same = sampled_losses(h1, h2, 0.5, "contrast", (some, some))
    torch.testing.assert_close(same, node_losses(h1[:8], h2[:8], 0.5))
    there, back = directed_losses(h1[:8], h2[:8], 0.5)[0], directed_losses(h1[5:13], h2[5:13], 0.5)[1]
    apart = sampled_losses(h1, h2, 0.5, "contrast", (some, others))
    torch.testing.assert_close(apart, (there + back) / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"terms": "constrast"}, "unknown terms 'constrast' of a loss"),
        ({"tau": 0.01}, "tau must be at least 0.02"),
        ({"terms": "no-positives", "neighbours": (torch.zeros(2, 0),) * 2}, "neighbours are positives"),
        ({"h2": torch.zeros(4, 3)}, "same shape"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    defaults = {"h1": torch.zeros(5, 3), "h2": torch.zeros(5, 3), "tau": 0.5}
    with pytest.raises(ValueError, match=message):
        node_losses(**(defaults | arguments))


def test_equal_weights_are_the_loss_without_the_intra_view_twin() -> None:
    """With B constant, the weighted contrast is GRACE's own: the same 2N - 1 candidates."""
    h1, h2 = torch.randn(2, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    constant = torch.full((12, 12), 0.3, dtype=torch.float64).fill_diagonal_(0)
    for loss in ("contrast", "no-positives"):
        torch.testing.assert_close(weighted_losses(h1, h2, constant, 0.4, loss), directed_losses(h1, h2, 0.4, loss)[0])


def test_no_negatives_has_no_weighted_form() -> None:
    h = F.normalize(torch.randn(4, 3))
    with pytest.raises(ValueError, match="no weighted negatives"):
        weighted_losses(h, h, torch.ones(4, 4), 0.5, "no-negatives")


def test_halves_of_the_discrimination_recombine() -> None:
    real, fake = torch.randn(2, 30)
    halves = [discrimination_loss(real, fake, loss) for loss in ("no-positives", "no-negatives")]
    whole = discrimination_loss(real, fake)
    torch.testing.assert_close(whole, sum(halves) / 2)
    logits, target = torch.cat([real, fake]), torch.cat([torch.ones(30), torch.zeros(30)])
    torch.testing.assert_close(whole, F.binary_cross_entropy_with_logits(logits, target))
    with pytest.raises(ValueError, match="unknown terms 'neighbours'"):
        discrimination_loss(real, fake, "neighbours")


# Graphs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def graph_views() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 7, 5, dtype=torch.float64, generator=generator).unbind())


@pytest.fixture
def graph_nodes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    local = torch.randn(9, 4, dtype=torch.float64, generator=generator)
    pooled = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    return local, pooled, torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 2])


def test_graphcls_loss_equals_a_loop(graph_views):
    total = 0.0
    for i, a in enumerate(graph_views[0]):
        cosines = [float(F.cosine_similarity(a, b, dim=0)) / TAU for b in graph_views[1]]
        total += math.log(sum(math.exp(s) for j, s in enumerate(cosines) if j != i)) - cosines[i]
    assert float(graphcl_loss(*graph_views, TAU)) == pytest.approx(total / 7, abs=1e-12)


def test_infographs_loss_equals_a_loop(graph_nodes):
    local, pooled, graph = graph_nodes
    positive, negative, pairs = 0.0, 0.0, 0
    for i, row in enumerate(local):
        for g, other in enumerate(pooled):
            score = float(row @ other)
            if g == graph[i]:
                positive += math.log1p(math.exp(-score)) - math.log(2)
            else:
                negative += math.log1p(math.exp(score)) - math.log(2)
                pairs += 1
    assert float(infograph_loss(*graph_nodes)) == pytest.approx(positive / 9 + negative / pairs, abs=1e-12)


@pytest.mark.parametrize("loss", [graphcl_loss, symmetric_loss])
def test_halves_of_graph_losses_add_up_to_the_whole(loss, graph_views, graph_nodes):
    contrast, no_positives, no_negatives = (float(loss(*graph_views, TAU, terms)) for terms in TERMS)
    assert contrast == pytest.approx(no_positives + no_negatives, abs=1e-12)
    contrast, no_positives, no_negatives = (float(infograph_loss(*graph_nodes, terms)) for terms in TERMS)
    assert contrast == pytest.approx(no_positives + no_negatives, abs=1e-12)


@pytest.mark.parametrize("terms", TERMS)
def test_the_order_of_graphs_and_the_length_of_rows_do_not_matter(terms, graph_views):
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    scale = torch.linspace(0.5, 3, 7, dtype=torch.float64)[:, None]
    for loss in (graphcl_loss, symmetric_loss):
        expected = loss(*graph_views, TAU, terms)
        torch.testing.assert_close(loss(graph_views[0][order], graph_views[1][order], TAU, terms), expected)
        torch.testing.assert_close(loss(graph_views[0] * scale, graph_views[1], TAU, terms), expected)


@pytest.mark.parametrize("terms", TERMS)
def test_the_symmetric_loss_is_the_mean_of_both_directions(terms, graph_views):
    both = (graphcl_loss(*graph_views, TAU, terms) + graphcl_loss(*reversed(graph_views), TAU, terms)) / 2
    torch.testing.assert_close(symmetric_loss(*graph_views, TAU, terms), both)
    torch.testing.assert_close(symmetric_loss(*reversed(graph_views), TAU, terms), both)


def test_graphcls_loss_pulls_without_negatives_and_pushes_without_positives(graph_views):
    x, y = (view.clone().requires_grad_() for view in graph_views)
    graphcl_loss(x, y, TAU, "no-negatives").backward()
    pulled = F.cosine_similarity(x - 0.1 * x.grad, y).sum()
    assert pulled > F.cosine_similarity(x, y).sum()
    x.grad = None
    graphcl_loss(x, y, TAU, "no-positives").backward()
    cosines = F.normalize(x - 0.1 * x.grad, dim=1) @ F.normalize(y, dim=1).T
    before = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    off = ~torch.eye(7, dtype=torch.bool)
    assert (cosines[off] / TAU).exp().sum() < (before[off] / TAU).exp().sum()


def test_a_batch_of_one_graph(graph_nodes):
    one = torch.ones(1, 5)
    for loss in (graphcl_loss, symmetric_loss):
        assert float(loss(one, one, 0.5, "no-negatives")) == pytest.approx(-2)
        for terms in ("contrast", "no-positives"):
            with pytest.raises(ValueError, match=f"the {terms} loss of 1 graph has no negatives"):
                loss(one, one, 0.5, terms)
    local, pooled, _ = graph_nodes
    alone = torch.zeros(9, dtype=torch.long)
    assert float(infograph_loss(local, pooled[:1], alone, "no-positives")) == 0
    contrast = infograph_loss(local, pooled[:1], alone, "contrast")
    torch.testing.assert_close(contrast, infograph_loss(local, pooled[:1], alone, "no-negatives"))


def test_a_zero_row_gives_finite_gradients_of_graphcls_loss(graph_views):
    x = graph_views[0].clone()
    x[3] = 0
    x.requires_grad_()
    graphcl_loss(x, graph_views[1], TAU).backward()
    assert x.grad.isfinite().all()


def test_unknown_terms_of_graph_losses_are_named():
    with pytest.raises(ValueError, match="unknown terms 'align'"):
        graphcl_loss(torch.ones(2, 2), torch.ones(2, 2), 1.0, "align")
    with pytest.raises(ValueError, match="unknown terms 'jsd'"):
        infograph_loss(torch.ones(2, 2), torch.ones(2, 2), torch.tensor([0, 1]), "jsd")
