"""The loss of the vision experiments: against loops over pairs, and what it does not see."""

import math

import pytest
import torch
from torch import Tensor

from methods.gcl.losses import TERMS
from methods.gcl.vision import pair_loss
from retable.nn.nt_xent import FLOOR


def rows(images: int = 5, d: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * images, d, generator=generator, dtype=torch.float64)


def slowly(x: Tensor, tau: float, loss: str) -> float:
    """By the definition, pair by pair."""

    def s(a: int, b: int) -> float:
        cosine = sum(float(p * q) for p, q in zip(x[a], x[b], strict=True)) / float(x[a].norm() * x[b].norm())
        return max(cosine, FLOOR) / tau

    total = 0.0
    for row in range(len(x)):
        partner = row + 1 if row % 2 == 0 else row - 1
        push = math.log(sum(math.exp(s(row, other)) for other in range(len(x)) if other != row))
        pull = s(row, partner)
        total += {"contrast": push - pull, "no-positives": push, "no-negatives": -pull}[loss]
    return total / len(x)


@pytest.mark.parametrize("loss", TERMS)
@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_equals_the_definition(loss: str, tau: float) -> None:
    assert float(pair_loss(rows(), tau, loss)) == pytest.approx(slowly(rows(), tau, loss), rel=1e-9)


def test_the_halves_add_up_to_the_whole() -> None:
    whole, push, pull = (pair_loss(rows(), 0.5, loss) for loss in TERMS)
    assert float(push + pull) == pytest.approx(float(whole), rel=1e-12)


@pytest.mark.parametrize("loss", TERMS)
def test_order_of_images_and_of_views_and_the_length_of_rows_do_not_matter(loss: str) -> None:
    x = rows()
    expected = pytest.approx(float(pair_loss(x, 0.5, loss)), rel=1e-12)
    images = x.unflatten(0, (-1, 2))
    assert float(pair_loss(images.flip(0).flatten(0, 1), 0.5, loss)) == expected
    assert float(pair_loss(images.flip(1).flatten(0, 1), 0.5, loss)) == expected
    assert float(pair_loss(x * torch.arange(1, 11)[:, None], 0.5, loss)) == expected


def test_partners_that_agree_and_images_that_are_orthogonal_have_the_lowest_loss() -> None:
    best = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 0)
    assert float(pair_loss(best, 0.5, "no-negatives")) == pytest.approx(-2)
    assert float(pair_loss(best, 0.5)) == pytest.approx(math.log(math.exp(2) + 6 * math.exp(FLOOR / 0.5)) - 2)
    for seed in range(20):
        assert pair_loss(rows(4, 4, seed), 0.5) > pair_loss(best, 0.5)


def test_cosines_below_the_floor_have_no_gradient() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.1]], requires_grad=True)
    for loss in TERMS:
        (gradient,) = torch.autograd.grad(pair_loss(x, 0.5, loss), x)
        assert not gradient.any()
    x = torch.tensor([[1.0, 0.0], [1.0, 0.1]], requires_grad=True)
    assert torch.autograd.grad(pair_loss(x, 0.5, "no-negatives"), x)[0].any()


def test_an_unknown_half_is_refused() -> None:
    with pytest.raises(KeyError, match="constrast"):
        pair_loss(torch.ones(4, 2), 0.5, "constrast")
