"""The uniformity term obeys its bounds and symmetries; reconstruction counts hidden patches only."""

import pytest
import torch
import torch.nn.functional as F

from methods.umae.losses import (
    normalize_patches,
    patchify,
    reconstruction_loss,
    simmim_loss,
    uniformity_loss,
    unpatchify,
)
from retable.evaluate.spectra import pairwise_cosines


def features(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def over_pairs(z: torch.Tensor) -> torch.Tensor:
    unit = F.normalize(z, dim=1, eps=1e-12)
    return (unit @ unit.T).square().mean()


@pytest.mark.parametrize(("n", "d"), [(5, 9), (9, 5), (1, 4), (7, 7)])
def test_gram_form_equals_the_mean_over_pairs_with_its_gradient(n: int, d: int) -> None:
    z = features(n, d).requires_grad_()
    for loss in (uniformity_loss(z), over_pairs(z)):
        torch.testing.assert_close(loss, over_pairs(z))
    ours, theirs = (torch.autograd.grad(loss(z), z)[0] for loss in (uniformity_loss, over_pairs))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("n", "d"), [(6, 3), (3, 6), (40, 8)])
def test_uniformity_lies_between_the_welch_bound_and_one(n: int, d: int) -> None:
    loss = uniformity_loss(features(n, d)).item()
    assert max(1 / n, 1 / d) <= loss <= 1


def test_uniformity_ignores_signs_scales_rotations_and_order() -> None:
    z = features(10, 4)
    rotation = torch.linalg.qr(features(4, 4, seed=1)).Q
    signs = torch.tensor([1.0, -3.0] * 5, dtype=torch.float64)[:, None]
    for other in (z * signs, z @ rotation, z[torch.randperm(10)]):
        torch.testing.assert_close(uniformity_loss(other), uniformity_loss(z))


def test_one_row_has_no_gradient() -> None:
    z = features(1, 5).requires_grad_()
    loss = uniformity_loss(z)
    assert loss.item() == pytest.approx(1)
    assert torch.autograd.grad(loss, z)[0].abs().max() < 1e-12


def test_emulated_processes_divide_the_gradient_and_leave_the_value() -> None:
    z = features(8, 3).requires_grad_()
    one, eight = uniformity_loss(z), uniformity_loss(z, 8)
    assert one.item() == eight.item()
    torch.testing.assert_close(torch.autograd.grad(eight, z)[0] * 8, torch.autograd.grad(one, z)[0])


def test_no_process_is_refused() -> None:
    with pytest.raises(ValueError, match="emulate_world_size is the authors' number of processes, 1 or more; got 0"):
        uniformity_loss(features(4, 3), 0)


def test_half_precision_features_are_compared_in_float32() -> None:
    z = features(64, 16).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = uniformity_loss(z)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), over_pairs(z.double()), rtol=1e-5, atol=0)


def test_patches_go_back_to_where_they_were() -> None:
    images = torch.rand(2, 3, 12, 12)
    patches = patchify(images, 4)
    assert patches.shape == (2, 9, 48)
    torch.testing.assert_close(patches[0, 1, :3], images[0, :, 0, 4])
    torch.testing.assert_close(unpatchify(patches, 4), images)


def test_sides_that_patches_do_not_fill_are_refused() -> None:
    with pytest.raises(ValueError, match="images are 12 x 12: their sides must be multiples of the patch side 5"):
        patchify(torch.rand(2, 3, 12, 12), 5)


def test_a_constant_patch_has_target_zero() -> None:
    patches = torch.cat([torch.full((1, 1, 8), 3.0), torch.rand(1, 1, 8)], 1)
    target = normalize_patches(patches)
    assert target[0, 0].abs().max() == 0
    assert target[0, 1].var().item() == pytest.approx(1, rel=1e-3)


def test_visible_patches_do_not_count() -> None:
    prediction, target = torch.rand(3, 4, 6), torch.rand(3, 4, 6)
    hidden = torch.tensor([[1.0, 0, 0, 1]] * 3)
    changed = prediction.clone()
    changed[:, 1:3] += 5
    assert torch.equal(*(reconstruction_loss(p, target, hidden) for p in (prediction, changed)))
    by_hand = (prediction - target)[:, [0, 3]].square().mean()
    torch.testing.assert_close(reconstruction_loss(prediction, target, hidden), by_hand)


def test_simmim_counts_hidden_pixels_only() -> None:
    images, pixels = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    hidden = torch.zeros(2, 4, 4)
    hidden[:, 1, 2] = 1
    by_hand = (images - pixels)[:, :, 2:4, 4:6].abs().mean()
    torch.testing.assert_close(simmim_loss(pixels, images, hidden), by_hand, rtol=1e-5, atol=0)


def test_uniformity_is_that_of_the_loss() -> None:
    z = torch.randn(20, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = pairwise_cosines(z)
    assert found["uniformity"] == pytest.approx(uniformity_loss(z).item())
    assert found["uniformity"] == pytest.approx(1 / 20 + 19 / 20 * found["uniformity_of_pairs"])
