import pytest
import torch

from methods.gcl.vision import pair_loss


def test_halves_recombine_to_contrast() -> None:
    x = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, push, pull = (pair_loss(x, 0.5, loss) for loss in ("contrast", "no-positives", "no-negatives"))
    torch.testing.assert_close(whole, push + pull)


def test_an_unknown_half_is_refused() -> None:
    with pytest.raises(KeyError, match="constrast"):
        pair_loss(torch.ones(4, 2), 0.5, "constrast")
