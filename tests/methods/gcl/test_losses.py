import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.gcl.losses import TERMS, directed_losses, node_losses, sampled_losses


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
