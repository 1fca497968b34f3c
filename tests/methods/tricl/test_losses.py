import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor

from methods.tricl import losses
from methods.tricl.losses import Importance, TriLoss
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


def similarities(q: Tensor, z: Tensor, ids: Tensor) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Of each anchor: scores of its positives and of its negatives."""
    every = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positive = [q[i] @ z[j] for j in others if ids[j] == ids[i]]
        every.append((positive, [q[i] @ z[j] for j in others if ids[j] != ids[i]]))
    return every


def nt_xent(q: Tensor, z: Tensor, ids: Tensor, temperature: float) -> Tensor:
    values = []
    for positive, negative in similarities(q, z, ids):
        up = sum((s / temperature).exp() for s in positive)
        values.append(-(up / (up + sum((s / temperature).exp() for s in negative))).log())
    return torch.stack(values).mean()


def spectral(q: Tensor, z: Tensor, ids: Tensor) -> Tensor:
    pairs = similarities(q, z, ids)
    pull = sum(sum(positive) for positive, _ in pairs) / len(z)
    return -pull + sum(sum(s**2 for s in negative) for _, negative in pairs) / len(z) ** 2


def released_anchors(z: Tensor, s: Tensor) -> Tensor:
    scale = torch.ones_like(z)
    scale[: len(z) // 2] = s.detach()
    return z * torch.where(torch.arange(len(z))[:, None] < len(z) // 2, s, scale)


def same(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(*(torch.autograd.grad(x, inputs, retain_graph=True) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other)


REPEATED = torch.tensor([0, 1, 2, 1, 4, 0]).repeat(2)


@pytest.mark.parametrize("ids", [None, distinct(), REPEATED], ids=["unnamed", "distinct", "repeated"])
def test_losses_and_gradients_are_those_of_loops_over_pairs(ids: Tensor | None) -> None:
    z, s = rows(), importance()
    names = distinct() if ids is None else ids
    unit = F.normalize(z)
    same(losses.simclr(z, 0.3, ids), nt_xent(unit, unit, names, 0.3), z)
    same(losses.simclr(z, 0.9, ids, normalise=False), nt_xent(z, z, names, 0.9), z)
    same(losses.scl(z, 0.3, ids), spectral(unit / 0.3, unit, names), z)
    anchors = released_anchors(unit, s)
    c = unit.T @ unit
    identity = torch.eye(D, dtype=torch.float64)
    simclr_penalty, scl_penalty = (c / len(z) - identity).square().mean(), (c - identity).square().mean()
    same(losses.tri_simclr(z, s, 0.3, 0.7, ids).total, nt_xent(anchors, unit, names, 0.3) + 0.7 * simclr_penalty, z, s)
    same(losses.tri_scl(z, s, 0.7, ids).total, spectral(anchors, unit, names) + 0.7 * scl_penalty, z, s)


def test_paper_forms_are_those_of_loops_over_pairs() -> None:
    z, s = rows(), importance()
    penalty = (z.T @ z / len(z) - torch.eye(D, dtype=torch.float64)).square().sum()
    same(losses.tri_simclr_paper(z, s, 0.9, 0.2).total, nt_xent(z * s, z, distinct(), 0.9) + 0.2 * penalty, z, s)
    z1, z2 = z.chunk(2)
    size = len(z1)
    pull = -2 * sum((z1[i] * s) @ z2[i] for i in range(size)) / size
    push = sum(((z1[i] * s) @ z2[j]) ** 2 for i in range(size) for j in range(size) if i != j) / (size * (size - 1))
    same(losses.tri_scl_paper(z, s, 0.2).total, pull + push + 0.2 * penalty, z, s)


def test_the_ball_cuts_long_rows_only() -> None:
    z = rows()
    z1, z2 = z.chunk(2)
    mu = 2.0
    cut = [torch.stack([r if r.norm() < mu**0.5 else r / r.norm() * mu**0.5 for r in part]) for part in (z1, z2)]
    assert any(len(set(part.norm(dim=1).round(decimals=9).tolist())) > 1 for part in cut)  # some rows stay short
    pull = -2 * (cut[0] * cut[1]).sum(1).mean()
    scores = (cut[0] @ cut[1].T).square()
    push = (scores.sum() - scores.diagonal().sum()) / (len(z1) * (len(z1) - 1))
    ours = losses.scl_original(z1, z2, mu)
    same(ours[0], pull / mu, z)
    same(ours[1], push / mu, z)


# Laws -----------------------------------------------------------------------------------------------------------------


def tri_losses(z: Tensor, s: Tensor) -> dict[str, TriLoss]:
    return {
        "tri_simclr": losses.tri_simclr(z, s, 0.3),
        "tri_scl": losses.tri_scl(z, s),
        "tri_simclr_paper": losses.tri_simclr_paper(z, s, 0.9),
        "tri_scl_paper": losses.tri_scl_paper(z, s),
    }


def test_rotations_change_three_factors_and_not_two() -> None:
    z, s = rows(), importance()
    rotation, _ = torch.linalg.qr(rows(5, D, seed=1).detach()[:D])
    torch.testing.assert_close(losses.simclr(z @ rotation, 0.3), losses.simclr(z, 0.3))
    torch.testing.assert_close(losses.scl(z @ rotation, 0.3), losses.scl(z, 0.3))
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
    torch.testing.assert_close(losses.tri_simclr(z, one, 0.3).contrast, losses.simclr(z, 0.3))
    torch.testing.assert_close(losses.tri_scl(z, one).contrast, losses.scl(z, 1.0))
    z1, z2 = z.chunk(2)
    torch.testing.assert_close(losses.tri_scl_paper(z, one).contrast, sum(losses.scl_original(z1, z2, 1e6)) * 1e6)


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


def test_clip_is_symmetric_and_its_penalty_can_vanish() -> None:
    image, text = rows(6).detach(), rows(6, seed=1).detach()
    s = importance().detach()
    torch.testing.assert_close(losses.tri_clip(image, text, s, 0.2).total, losses.tri_clip(text, image, s, 0.2).total)
    corners = torch.cat([torch.eye(4), -torch.eye(4)])
    assert losses.tri_clip(corners, corners, torch.ones(4), 0.2).decorrelation < 1e-12
    one = losses.tri_clip(image, image, torch.ones(D, dtype=torch.float64), 0.01)
    assert one.contrast < 0.1  # each row finds itself


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
        lambda: losses.simclr(z[:5], 0.2),
        lambda: losses.scl(z[:5], 0.2),
        lambda: losses.tri_scl(z[:5], s),
        lambda: losses.tri_scl_paper(z[:5], s),
        lambda: losses.tri_simclr_paper(z[:5], s, 0.2),
    ):
        with pytest.raises(ValueError, match="an even number of rows, got 5"):
            loss()
    with pytest.raises(ValueError, match="ids must name the sample of each of 12 rows"):
        losses.simclr(z, 0.2, torch.arange(12))
    with pytest.raises(ValueError, match="at least 2 samples"):
        losses.scl_original(z[:1], z[1:2])
