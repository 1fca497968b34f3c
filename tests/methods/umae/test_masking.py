"""Masks hide exactly as many patches as MAE's code does, each image for itself."""

import pytest
import torch

from methods.umae.masking import gather_tokens, masked_squares, random_masking, square_masking, visible_patches


@pytest.mark.parametrize(
    ("patches", "ratio", "visible"),
    [(196, 0.75, 49), (196, 0.6, 78), (196, 0.9, 19), (20, 0.8, 3), (10, 0.9, 0), (64, 0.0, 64)],
)
def test_the_count_of_visible_patches_is_cut_off(patches: int, ratio: float, visible: int) -> None:
    assert visible_patches(patches, ratio) == visible


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5])
def test_ratios_out_of_range_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="from 0 to below 1; got"):
        visible_patches(16, ratio)
    with pytest.raises(ValueError, match="from 0 to below 1; got"):
        masked_squares(ratio, 16)


def test_restore_undoes_the_order_and_marks_what_is_hidden() -> None:
    noise = torch.rand(5, 12)
    masking = random_masking(noise, 0.75)
    assert masking.visible.shape == (5, 3)
    assert (masking.mask.sum(1) == 9).all()
    assert (masking.restore.sort(1).values == torch.arange(12)).all()
    assert (masking.mask.gather(1, masking.visible) == 0).all()
    # The visible ones are those with the least noise, the least first.
    torch.testing.assert_close(noise.gather(1, masking.visible), noise.sort(1).values[:, :3])
    x = torch.rand(5, 12, 2)
    shuffled = gather_tokens(x, noise.argsort(1))
    torch.testing.assert_close(gather_tokens(shuffled, masking.restore), x)


def test_squares_are_hidden_whole() -> None:
    order = torch.rand(6, 16).argsort(1)
    hidden = square_masking(order, 0.6, 2)
    assert hidden.shape == (6, 8, 8)
    squares = hidden.view(6, 4, 2, 4, 2)
    assert torch.equal(squares.amax((2, 4)), squares.amin((2, 4)))
    assert (squares.amax((2, 4)).sum((1, 2)) == 10).all()
