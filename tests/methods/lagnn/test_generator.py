"""The generator, its draws and its score."""

import pytest
import torch

from methods.lagnn.generator import CVAE, Reconstruction, Sampler, cvae_loss, disagreement, normalise_rows


def test_rows_sum_to_one_and_empty_ones_stay_zero() -> None:
    made = normalise_rows(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    assert made.tolist() == [[0.25, 0.75], [0.0, 0.0]]


def test_a_draw_is_what_the_decoder_gives() -> None:
    torch.manual_seed(0)
    model, x, z = CVAE(5, 8, 3), torch.rand(6, 5), torch.randn(6, 3)
    torch.testing.assert_close(Sampler(model, x).of(z), normalise_rows(model.decode(z, x)))


def test_draws_are_fresh_and_carry_no_gradient() -> None:
    torch.manual_seed(0)
    sampler = Sampler(CVAE(5, 8, 3), torch.rand(6, 5))
    first, second = sampler.draw(), sampler.draw()
    assert not torch.equal(first, second)
    assert not first.requires_grad


def test_the_loss_by_hand() -> None:
    found = Reconstruction(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0]]), torch.tensor([[0.0]]))
    # Two cross-entropies of log 2 and a divergence of half the squared mean.
    assert cvae_loss(found, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(2 * 0.6931472 + 0.5)


def test_passes_that_agree_have_no_disagreement_and_others_have_a_negative_one() -> None:
    torch.manual_seed(0)
    one, y = torch.randn(1, 6, 3), torch.randint(3, (6,))
    assert disagreement(one.expand(4, -1, -1), y).item() == pytest.approx(0, abs=1e-6)
    assert disagreement(torch.randn(4, 6, 3), y).item() < -0.05
