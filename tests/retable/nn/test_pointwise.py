import pytest
import torch

from retable.nn.pointwise import tanh


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_is_that_of_torch_with_its_gradient(dtype: torch.dtype) -> None:
    edges = torch.tensor([0.0, -0.0, 1e-30, 1e30, -torch.inf, torch.nan], dtype=dtype)
    torch.manual_seed(0)
    values = torch.cat([edges, 3 * torch.randn(1000, dtype=dtype)]).view(2, -1)
    # Every other column: entries that do not lie side by side.
    x = values[:, ::2].clone().T.requires_grad_()
    y = x.detach().clone().requires_grad_()
    torch.testing.assert_close(tanh(x), torch.tanh(y), equal_nan=True)
    weights = torch.randn(x.shape, dtype=dtype)
    (tanh(x) * weights).sum().backward()
    (torch.tanh(y) * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, equal_nan=True)


def test_tanh_of_nothing_is_nothing() -> None:
    assert tanh(torch.zeros(0, 3)).shape == (0, 3)


def test_tanh_may_be_differentiated_twice() -> None:
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(tanh, x)
