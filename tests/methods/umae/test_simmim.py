"""SimMIM: masked tokens, the block of its features, and what is refused."""

import pytest
import torch

from methods.umae.simmim import SimMIM
from methods.umae.vit import Size

TINY = Size(16, 4, 24, 2, 3, 16, 1, 2, mlp_ratio=2.0)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def images(n: int = 4, side: int = 16) -> torch.Tensor:
    return torch.randn(n, 3, side, side)


def test_simmim_sees_the_mask_token_in_place_of_hidden_patches() -> None:
    model = SimMIM(TINY, 5, square=8, probe_block=1).eval()
    x, order = images(), model.draw(4, torch.device("cpu"))
    hidden = model(x, order).mask.bool()
    assert (hidden.sum(1) == 12).all()  # three of four squares of four patches
    pixels = hidden.view(4, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(pixels, torch.randn_like(x), x)
    assert torch.equal(model.masked_feature(x, order), model.masked_feature(other, order))
    assert model(x, order).prediction.shape == (4, 16, 48)


def test_simmims_patch_features_come_from_an_inner_block() -> None:
    model, x = SimMIM(TINY, 5, square=8, probe_block=1, drop_path=0.0), images()
    before = model.features(x)
    with torch.no_grad():
        model.encoder.blocks[1].gamma_2.add_(1.0)
    after = model.features(x)
    assert torch.equal(before["mean_patch"], after["mean_patch"])
    assert not torch.equal(before["cls"], after["cls"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"square": 6}, "SimMIM masks squares of 6 pixels"),
        ({"square": 8, "probe_block": 3}, "probe_block is one of the blocks 1 to 2, got 3"),
        ({"square": 8, "mask_ratio": 1.0}, "from 0 to below 1"),
    ],
)
def test_simmim_refuses_squares_and_blocks_that_are_not_there(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimMIM(TINY, 5, **{"probe_block": 1} | options)
