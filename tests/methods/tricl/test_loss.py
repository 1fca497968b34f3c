import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from methods.tricl import loss as losses
from methods.tricl.baselines import scl, scl_original, simclr
from methods.tricl.loss import Importance, TriLoss
from retable.train.distributed import all_gather_with_grad

D = 5


def rows(pairs: int = 6, dim: int = D, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * pairs, dim, dtype=torch.float64, generator=generator).requires_grad_()


def importance(dim: int = D) -> Tensor:
    return torch.linspace(0.4, 2, dim, dtype=torch.float64).requires_grad_()


def distinct(pairs: int = 6) -> Tensor:
    return torch.arange(pairs).repeat(2)


# One pair at a time ---------------------------------------------------------------------------------------------------


def released_anchors(z: Tensor, s: Tensor) -> Tensor:
    scale = torch.ones_like(z)
    scale[: len(z) // 2] = s.detach()
    return z * torch.where(torch.arange(len(z))[:, None] < len(z) // 2, s, scale)


REPEATED = torch.tensor([0, 1, 2, 1, 4, 0]).repeat(2)


@pytest.mark.parametrize("ids", [None, distinct(), REPEATED], ids=["unnamed", "distinct", "repeated"])
def test_losses_and_gradients_are_those_of_loops_over_pairs(ids: Tensor | None, nt_xent, spectral, same) -> None:
    z, s = rows(), importance()
    names = distinct() if ids is None else ids
    unit = F.normalize(z)
    anchors = released_anchors(unit, s)
    c = unit.T @ unit
    identity = torch.eye(D, dtype=torch.float64)
    simclr_penalty, scl_penalty = (c / len(z) - identity).square().mean(), (c - identity).square().mean()
    same(losses.tri_simclr(z, s, 0.3, 0.7, ids).total, nt_xent(anchors, unit, names, 0.3) + 0.7 * simclr_penalty, z, s)
    same(losses.tri_scl(z, s, 0.7, ids).total, spectral(anchors, unit, names) + 0.7 * scl_penalty, z, s)


def test_paper_forms_are_those_of_loops_over_pairs(nt_xent, same) -> None:
    z, s = rows(), importance()
    penalty = (z.T @ z / len(z) - torch.eye(D, dtype=torch.float64)).square().sum()
    same(losses.tri_simclr_paper(z, s, 0.9, 0.2).total, nt_xent(z * s, z, distinct(), 0.9) + 0.2 * penalty, z, s)
    z1, z2 = z.chunk(2)
    size = len(z1)
    pull = -2 * sum((z1[i] * s) @ z2[i] for i in range(size)) / size
    push = sum(((z1[i] * s) @ z2[j]) ** 2 for i in range(size) for j in range(size) if i != j) / (size * (size - 1))
    same(losses.tri_scl_paper(z, s, 0.2).total, pull + push + 0.2 * penalty, z, s)


# Laws -----------------------------------------------------------------------------------------------------------------


def tri_losses(z: Tensor, s: Tensor) -> dict[str, TriLoss]:
    return {
        "tri_simclr": losses.tri_simclr(z, s, 0.3),
        "tri_scl": losses.tri_scl(z, s),
        "tri_simclr_paper": losses.tri_simclr_paper(z, s, 0.9),
        "tri_scl_paper": losses.tri_scl_paper(z, s),
    }


def test_rotations_change_three_factors() -> None:
    z, s = rows(), importance()
    rotation, _ = torch.linalg.qr(rows(5, D, seed=1).detach()[:D])
    for name, loss in tri_losses(z, s).items():
        assert not torch.isclose(tri_losses(z @ rotation, s)[name].contrast, loss.contrast), name
        torch.testing.assert_close(tri_losses(z @ rotation, s)[name].decorrelation, loss.decorrelation)


def test_signs_and_the_order_of_features_and_samples_do_not_matter() -> None:
    z, s = rows(), importance()
    signs = torch.tensor([1.0, -1, -1, 1, -1], dtype=torch.float64)
    order, samples = torch.tensor([3, 1, 4, 0, 2]), torch.tensor([4, 2, 0, 5, 1, 3])
    shuffled = torch.cat([part[samples] for part in z.chunk(2)])
    for name, loss in tri_losses(z, s).items():
        for other in (tri_losses(z * signs, s), tri_losses(z[:, order], s[order]), tri_losses(shuffled, s)):
            torch.testing.assert_close(other[name].total, loss.total)


def test_importance_one_is_no_importance() -> None:
    z, one = rows(), torch.ones(D, dtype=torch.float64)
    torch.testing.assert_close(losses.tri_simclr(z, one, 0.3).contrast, simclr(z, 0.3))
    torch.testing.assert_close(losses.tri_scl(z, one).contrast, scl(z, 1.0))
    z1, z2 = z.chunk(2)
    torch.testing.assert_close(losses.tri_scl_paper(z, one).contrast, sum(scl_original(z1, z2, 1e6)) * 1e6)


def test_large_importance_does_not_overflow() -> None:
    z = rows(6, 64).detach().float()
    loss = losses.tri_simclr(z, torch.full((64,), 1e4), 0.2)
    assert loss.total.isfinite()
    assert loss.total > 0


def test_the_released_penalty_of_tri_simclr_has_a_floor() -> None:
    # Rows of unit length: the trace of their second moments is 1, so the identity is out of reach.
    dim = 4
    best = torch.cat([torch.eye(dim), torch.eye(dim)])
    penalty = losses.tri_simclr(best, torch.ones(dim), 0.2).decorrelation
    torch.testing.assert_close(penalty, torch.tensor((1 - 1 / dim) ** 2 / dim))
    assert losses.tri_scl_paper(best * dim**0.5, torch.ones(dim)).decorrelation < 1e-10


def test_only_learned_importance_has_a_gradient() -> None:
    frozen, learned = Importance(D, learned=False), Importance(D, learned=True)
    losses.tri_scl(rows().float(), learned()).total.backward()
    assert learned.raw.grad is not None
    assert not frozen.raw.requires_grad
    assert bool((frozen() > 0).all())
    assert abs(float(Importance(4000, learned=False)().mean()) - 0.69) < 0.02


# Several processes ----------------------------------------------------------------------------------------------------


def one_process(rank: int, size: int, path: str, z: Tensor, s: Tensor, out: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=size)
    first, second = (part.chunk(size)[rank].clone().requires_grad_() for part in z.chunk(2))
    whole = torch.cat([all_gather_with_grad(first), all_gather_with_grad(second)])
    sum(loss.total for loss in tri_losses(whole, s).values()).backward()
    torch.save([first.grad / size, second.grad / size], f"{out}.{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path) -> None:
    z, s = rows(), importance().detach()
    alone = torch.autograd.grad(sum(loss.total for loss in tri_losses(z, s).values()), z)[0]
    mp.spawn(one_process, (2, str(tmp_path / "store"), z.detach(), s, str(tmp_path / "out")), nprocs=2)
    parts = [torch.load(tmp_path / f"out.{rank}") for rank in range(2)]
    torch.testing.assert_close(torch.cat([part[view] for view in range(2) for part in parts]), alone)


# What cannot be used --------------------------------------------------------------------------------------------------


def test_bad_input_is_named() -> None:
    z, s = rows(), importance()
    for loss in (
        lambda: losses.tri_simclr(z[:5], s, 0.2),
        lambda: losses.tri_scl(z[:5], s),
        lambda: losses.tri_scl_paper(z[:5], s),
        lambda: losses.tri_simclr_paper(z[:5], s, 0.2),
    ):
        with pytest.raises(ValueError, match="an even number of rows, got 5"):
            loss()
