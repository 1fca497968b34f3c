import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.tricl import baselines

D = 5


def rows(pairs: int = 6, dim: int = D, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * pairs, dim, dtype=torch.float64, generator=generator).requires_grad_()


def distinct(pairs: int = 6) -> Tensor:
    return torch.arange(pairs).repeat(2)


REPEATED = torch.tensor([0, 1, 2, 1, 4, 0]).repeat(2)


@pytest.mark.parametrize("ids", [None, distinct(), REPEATED], ids=["unnamed", "distinct", "repeated"])
def test_losses_and_gradients_are_those_of_loops_over_pairs(ids: Tensor | None, nt_xent, spectral, same) -> None:
    z = rows()
    names = distinct() if ids is None else ids
    unit = F.normalize(z)
    same(baselines.simclr(z, 0.3, ids), nt_xent(unit, unit, names, 0.3), z)
    same(baselines.simclr(z, 0.9, ids, normalise=False), nt_xent(z, z, names, 0.9), z)
    same(baselines.scl(z, 0.3, ids), spectral(unit / 0.3, unit, names), z)


def test_the_ball_cuts_long_rows_only(same) -> None:
    z = rows()
    z1, z2 = z.chunk(2)
    mu = 2.0
    cut = [torch.stack([r if r.norm() < mu**0.5 else r / r.norm() * mu**0.5 for r in part]) for part in (z1, z2)]
    assert any(len(set(part.norm(dim=1).round(decimals=9).tolist())) > 1 for part in cut)  # some rows stay short
    pull = -2 * (cut[0] * cut[1]).sum(1).mean()
    scores = (cut[0] @ cut[1].T).square()
    push = (scores.sum() - scores.diagonal().sum()) / (len(z1) * (len(z1) - 1))
    ours = baselines.scl_original(z1, z2, mu)
    same(ours[0], pull / mu, z)
    same(ours[1], push / mu, z)


def test_rotations_do_not_change_two_factors() -> None:
    z = rows()
    rotation, _ = torch.linalg.qr(rows(5, D, seed=1).detach()[:D])
    torch.testing.assert_close(baselines.simclr(z @ rotation, 0.3), baselines.simclr(z, 0.3))
    torch.testing.assert_close(baselines.scl(z @ rotation, 0.3), baselines.scl(z, 0.3))


def test_bad_input_is_named() -> None:
    z = rows()
    for loss in (lambda: baselines.simclr(z[:5], 0.2), lambda: baselines.scl(z[:5], 0.2)):
        with pytest.raises(ValueError, match="an even number of rows, got 5"):
            loss()
    with pytest.raises(ValueError, match="ids must name the sample of each of 12 rows"):
        baselines.simclr(z, 0.2, torch.arange(12))
    with pytest.raises(ValueError, match="at least 2 samples"):
        baselines.scl_original(z[:1], z[1:2])
