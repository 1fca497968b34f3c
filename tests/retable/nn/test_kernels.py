"""The blocked sums against the array of all pairs."""

import pytest
import torch
from torch import Tensor

from retable.nn import kernels
from retable.nn.kernels import kernel_row_sums, kernel_sums, product
from retable.nn.mask import NeighbourMask


def rows(n: int, d: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, dtype=torch.float64, generator=generator).requires_grad_()


def random_mask(n: int, directed: bool) -> NeighbourMask:
    pairs = torch.randint(n, (2, 2 * n), generator=torch.Generator().manual_seed(0))
    return NeighbourMask(pairs if directed else torch.cat([pairs, pairs.flip(0)], 1), n)


def same_with_gradients(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs)
    weights = torch.linspace(1, 2, ours.numel(), dtype=ours.dtype).view_as(ours)
    gradients = (torch.autograd.grad((x * weights).sum(), inputs, retain_graph=True) for x in (ours, theirs))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["no mask", "undirected", "directed"])
@pytest.mark.parametrize("n", [1, 2, 37, 1700])
def test_weighted_sums_and_totals_are_those_of_the_dense_kernel(n: int, kind: str) -> None:
    mask = None if kind == "no mask" else random_mask(n, kind == "directed")
    u, v = rows(n), rows(n, 3, seed=1)
    e = (u @ u.T).exp()
    e = e if mask is None else e * ~mask.dense()
    out, total = kernel_sums(u, v, mask)
    same_with_gradients(torch.cat([out, total[:, None]], 1), torch.cat([e @ v, e.sum(1, keepdim=True)], 1), u, v)


@pytest.mark.parametrize("n", [1, 2, 37, 1300])
def test_row_sums_are_those_of_the_dense_kernel_without_its_diagonal(n: int) -> None:
    w = rows(n)
    e = (w @ w.T).exp() * (1 - torch.eye(n, dtype=w.dtype))
    same_with_gradients(kernel_row_sums(w), e.sum(1), w)


@pytest.mark.parametrize("kind", ["no mask", "undirected", "directed"])
@pytest.mark.parametrize("size", [1, 4, 23, 1000])
def test_block_size_does_not_matter(size: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    u, v = rows(23), rows(23, 3, seed=1)

    def sums() -> Tensor:
        mask = None if kind == "no mask" else random_mask(23, kind == "directed")
        out, total = kernel_sums(u, v, mask)
        return torch.cat([out, total[:, None], kernel_row_sums(u)[:, None]], 1)

    whole = sums()
    whole_gradients = torch.autograd.grad(whole.square().sum(), (u, v))
    monkeypatch.setattr(kernels, "_block_size", lambda t, on_cpu: size)
    torch.testing.assert_close(sums(), whole)
    gradients = torch.autograd.grad(sums().square().sum(), (u, v))
    for one, other in zip(gradients, whole_gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("entry", ["onednn", "torch"])
def test_the_product_is_that_of_rows_with_rows(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if entry == "torch":
        monkeypatch.setattr(kernels, "_onednn_linear", None)
    a, b = rows(9).detach().float(), rows(5).detach().float()
    torch.testing.assert_close(product(a, b), a @ b.T)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_processor() -> None:
    u = rows(5000, 16).detach() / 4  # more than one block there too
    torch.testing.assert_close(kernel_row_sums(u.cuda()).cpu(), kernel_row_sums(u))
    for ours, theirs in zip(kernel_sums(u.cuda(), u.cuda()), kernel_sums(u, u), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs)
