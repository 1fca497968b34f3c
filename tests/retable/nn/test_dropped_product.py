"""Dropout and a product in one."""

import pytest
import torch

from retable.nn.dropped_product import dropped_product
from retable.nn.sparse import SparseMatrix


def weights(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_without_dropout_it_is_the_product_with_its_gradient(p: float, training: bool) -> None:
    x, weight, other = torch.rand(5, 3, dtype=torch.float64), weights(), weights()
    expected = x @ other
    expected.square().sum().backward()
    for features in (x, x.clone().requires_grad_(), SparseMatrix(x.to_sparse_csr())):
        weight.grad = None
        found = dropped_product(features, weight, p, training)
        found.square().sum().backward()
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(weight.grad, other.grad)


def test_each_entry_is_left_out_with_the_rate_and_the_rest_is_scaled() -> None:
    torch.manual_seed(0)
    n, p = 200, 0.3
    # The identity as weights shows the dropped features.
    dropped = dropped_product(torch.ones(n, n), torch.eye(n), p, True)
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 1 / (1 - p)]))
    assert (dropped == 0).double().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p)) ** 0.5 / n)
    assert dropped[0].tolist() != dropped[1].tolist()


def test_the_gradient_is_that_of_what_was_left() -> None:
    x, weight = torch.rand(5, 3, dtype=torch.float64), weights()
    torch.manual_seed(0)
    dropped_product(x, weight, 0.5, True).sum().backward()
    torch.manual_seed(0)
    left = dropped_product(x, torch.eye(3, dtype=torch.float64), 0.5, True)
    torch.testing.assert_close(weight.grad, left.sum(0)[:, None].expand(3, 2))


def test_features_that_want_a_gradient_get_one() -> None:
    x = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    dropped_product(x, weights(), 0.5, True).sum().backward()
    assert x.grad is not None
    assert set((x.grad == 0).unique().tolist()) == {False, True}
