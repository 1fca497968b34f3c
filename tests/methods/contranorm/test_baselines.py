"""The layers beside ContraNorm: their formulas, and all of them by name."""

import pytest
import torch
from torch import Tensor

from methods.contranorm.baselines import NORMS, PairNorm, make_norm
from retable.nn.mask import NeighbourMask

N, D = 11, 5


def features(d: int = D, seed: int = 0) -> Tensor:
    return torch.randn(N, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_keeps_the_shape_and_passes_gradients(name: str) -> None:
    x = features().float().requires_grad_()
    y = make_norm(name, D, 0.5)(x, NeighbourMask(torch.arange(N).repeat(2, 1), N))
    assert y.shape == x.shape
    (y * features(seed=1).float()).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.any()


@pytest.mark.parametrize("name", [name for name in NORMS if name not in ("DGN", "CN", "CN-D")])
def test_gradcheck(name: str) -> None:
    assert torch.autograd.gradcheck(make_norm(name, 3, 2.0), features(3).requires_grad_())


def test_pair_norm_keeps_the_mean_squared_distance_of_rows() -> None:
    x = features()
    for scale in (0.1, 1.0, 10.0):
        y = make_norm("PN", D, 2.0)(scale * x)
        assert torch.cdist(y, y).square().mean().item() == pytest.approx(2 * 2.0**2, rel=1e-3)


def test_pair_norm_with_single_rows_gives_each_the_length_of_the_scale() -> None:
    x = features()
    for mode, before in (("PN-SI", x - x.mean(0)), ("PN-SCS", x)):
        rows = 3 * before / before.norm(dim=1, keepdim=True)
        expected = rows if mode == "PN-SI" else rows - x.mean(0)
        torch.testing.assert_close(PairNorm(mode, 3.0)(x), expected, rtol=1e-4, atol=1e-4)


def test_centred_unit_is_layer_norm_over_the_root_of_the_width() -> None:
    x = features()
    torch.testing.assert_close(make_norm("LN", D)(x), torch.nn.functional.layer_norm(x, (D,), eps=0.0) / D**0.5)


def test_differentiable_group_norm_follows_its_formula() -> None:
    x = features().float()
    layer = make_norm("DGN", D, groups=3, lamda=0.5)
    assignment = (x @ layer.norm.lin.weight.T).softmax(1)  # (n, groups)
    scaled = assignment[:, :, None] * x[:, None]  # (n, groups, d)
    normalised = (scaled - scaled.mean(0)) / (scaled.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), x + 0.5 * normalised.sum(1), rtol=1e-4, atol=1e-5)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown norm 'CM': choose one of none, PN"):
        make_norm("CM", D)
    with pytest.raises(ValueError, match="unknown PairNorm mode 'PN-X'"):
        PairNorm("PN-X", 1.0)
    with pytest.raises(ValueError, match="takes no options, got tau"):
        make_norm("PN", D, tau=2.0)
