"""Every operation against torchvision's on the same parameters, in floats and on 8-bit PIL images; the draws' rules."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as V
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode, v2

from retable.data import augment

ADJUST = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, V.adjust_hue)
# torchvision's luma weights on tensors; PIL's have one digit more.
TORCHVISION_LUMA = (0.2989, 0.587, 0.114)


def photos(n: int = 24, height: int = 20, width: int = 27) -> torch.Tensor:
    """Smooth random images with full range, uint8 (n, 3, height, width); the first two are black and grey."""
    torch.manual_seed(0)
    x = torch.nn.functional.interpolate(torch.rand(n, 3, 6, 6), (height, width), mode="bicubic").clamp(0, 1)
    x[0], x[1] = 0, 0.5
    return (x * 255).round().to(torch.uint8)


def noise(n: int = 24, height: int = 20, width: int = 27) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(256, (n, 3, height, width), dtype=torch.uint8)


def pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def difference(x: torch.Tensor, images: list[Image.Image]) -> np.ndarray:
    """How far floats x are from 8-bit images at each value, in 1/255."""
    exact = np.stack([np.asarray(image) for image in images]).astype(np.float64)
    return np.abs(x.permute(0, 2, 3, 1).numpy() * 255 - exact)


def off_by(x: torch.Tensor, images: list[Image.Image]) -> float:
    """The largest difference."""
    return float(difference(x, images).max())


# Crop and resize ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 24), (33, 12), (40, 60)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_are_resized_as_torchvision_and_pil_do(interpolation, size):
    images, mode = noise(), InterpolationMode(interpolation)
    boxes = augment.draw_boxes(len(images), 20, 27)
    # Away from 0 and 1, where torchvision's floats do not clip what cubic filters overshoot.
    x = augment.to_float(images) * 0.4 + 0.3
    exact = [
        V.resized_crop(image, *box, list(size), interpolation=mode, antialias=True)
        for image, box in zip(x, boxes.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        augment.resized_crop(x, boxes, size, interpolation), torch.stack(exact), rtol=0, atol=2e-6
    )
    exact = [
        V.resized_crop(pil(image), *box, list(size), interpolation=mode)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    assert off_by(augment.resized_crop(augment.to_float(images), boxes, size, interpolation), exact) < 2


def test_the_whole_image_at_its_own_size_is_unchanged():
    x = augment.to_float(noise())
    boxes = torch.tensor([0, 0, 20, 27]).expand(len(x), 4)
    for interpolation in ("bilinear", "bicubic"):
        torch.testing.assert_close(augment.resized_crop(x, boxes, (20, 27), interpolation), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(32, 32, (0.08, 1.0)), (32, 32, (0.955, 1.0)), (20, 60, (0.5, 1.0))]
)
def test_boxes_are_drawn_as_by_torchvision(height, width, scale):
    torch.manual_seed(2)
    ours = augment.draw_boxes(40_000, height, width, scale).double()
    rule = v2.RandomResizedCrop(32, scale=scale)
    blank = [torch.zeros(3, height, width)]
    drawn = [rule.make_params(blank) for _ in range(3000)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn]).double()
    for values in (lambda b: b, lambda b: b**2, lambda b: (b[:, 2:] == torch.tensor([height, width])).double()):
        a, b = values(ours), values(theirs)
        error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() <= 4 * error).all()
    assert ((ours >= 0) & (ours[:, 2:] > 0).all(1, keepdim=True)).all()
    assert (ours[:, :2] + ours[:, 2:] <= torch.tensor([height, width])).all()


def test_where_no_try_fits_the_box_is_central_and_its_aspect_within_the_range():
    # Four times the area never fits.
    assert augment.draw_boxes(3, 20, 60, scale=(4, 4)).tolist() == [[0, 16, 20, 27]] * 3
    assert augment.draw_boxes(3, 60, 20, scale=(4, 4)).tolist() == [[16, 0, 27, 20]] * 3
    assert augment.draw_boxes(3, 20, 22, scale=(4, 4)).tolist() == [[0, 0, 20, 22]] * 3


def test_padded_crops_are_torchvisions():
    x = augment.to_float(noise())
    shifts = augment.draw_shifts(len(x), 4)
    assert shifts.min() == 0
    assert shifts.max() == 8
    padded = V.pad(x, [4, 4, 4, 4])
    exact = [V.crop(image, *shift, 20, 27) for image, shift in zip(padded, shifts.tolist(), strict=True)]
    assert torch.equal(augment.shifted_crop(x, shifts, 4), torch.stack(exact))


# Chosen images --------------------------------------------------------------------------------------------------------


def test_flip_and_grey_touch_the_chosen_images_alone():
    images = noise()
    x, chosen = augment.to_float(images), augment.draw_chosen(24, 0.5)
    assert 0 < chosen.sum() < 24
    results = {
        augment.flip: (V.horizontal_flip, 1e-4),
        augment.to_grey: (lambda image: V.rgb_to_grayscale(image, num_output_channels=3), 0.51),
    }
    for ours, (theirs, within) in results.items():
        result = ours(x, chosen)
        assert torch.equal(result[~chosen], x[~chosen])
        exact = [Image.fromarray(np.asarray(theirs(pil(image)))) for image in images[chosen]]
        assert off_by(result[chosen], exact) <= within * (1 + 1e-4)


def test_probabilities_are_kept():
    torch.manual_seed(3)
    for p in (0.0, 0.2, 0.8, 1.0):
        share = augment.draw_chosen(20_000, p).double().mean().item()
        assert abs(share - p) <= 4 * math.sqrt(p * (1 - p) / 20_000)


# Colour ---------------------------------------------------------------------------------------------------------------


def test_jitter_follows_each_images_own_order_and_factors(monkeypatch):
    monkeypatch.setattr(augment, "LUMA", TORCHVISION_LUMA)
    x = augment.to_float(photos(96))
    parameters = augment.draw_jitter(96, 0.8, 0.8, 0.8, 0.2)
    assert len(set(map(tuple, parameters.order.tolist()))) == 24
    exact = x.clone()
    for k in parameters.chosen.nonzero().squeeze(1).tolist():
        for operation in parameters.order[k].tolist():
            exact[k] = ADJUST[operation](exact[k], parameters.factors[k, operation].item())
    torch.testing.assert_close(augment.jitter(x, parameters), exact, rtol=0, atol=5e-6)


# PIL's hue lives on a circle of 256 steps, each of which moves a channel by up to 6/255, and is cut off, not rounded,
# three times; on average that is little. The other operations round once or twice.
@pytest.mark.parametrize(("operation", "within", "on_average"), [(0, 1, 1), (1, 2, 1), (2, 2, 1), (3, 18, 1.5)])
def test_single_operations_agree_with_pil(operation, within, on_average):
    images = photos(64)
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(64, 1)
    factors[:, operation] = torch.empty(64).uniform_(-0.3, 0.3) if operation == 3 else torch.rand(64) * 2
    parameters = augment.Jitter(torch.ones(64, dtype=torch.bool), factors, torch.arange(4).repeat(64, 1))
    exact = [ADJUST[operation](pil(image), f.item()) for image, f in zip(images, factors[:, operation], strict=True)]
    differences = difference(augment.jitter(augment.to_float(images), parameters), exact)
    assert differences.max() <= within
    assert differences.mean() <= on_average


def test_factors_lie_in_torchvisions_ranges():
    torch.manual_seed(4)
    drawn = augment.draw_jitter(20_000, 0.4, 1.5, 0.0, 0.1, p=1.0)
    low, high = drawn.factors.amin(0), drawn.factors.amax(0)
    torch.testing.assert_close(low, torch.tensor([0.6, 0.0, 1.0, -0.1]), rtol=0, atol=1e-3)
    torch.testing.assert_close(high, torch.tensor([1.4, 2.5, 1.0, 0.1]), rtol=0, atol=1e-3)
    assert drawn.chosen.all()
    share = (drawn.order[:, 0, None] == torch.arange(4)).double().mean(0)
    torch.testing.assert_close(share, torch.full((4,), 0.25, dtype=torch.double), rtol=0, atol=0.013)


def test_jitter_of_strength_zero_changes_nothing():
    x = augment.to_float(photos())
    torch.testing.assert_close(augment.color_jitter(x, 0, 0, 0, 0, p=1.0), x, rtol=0, atol=1e-6)


def test_images_with_one_channel_keep_their_hue_and_saturation():
    x = augment.to_float(photos())[:, :1]
    parameters = augment.draw_jitter(24, 0.4, 0.4, 0.4, 0.1, p=1.0)
    exact = [x[k] for k in range(24)]
    for k in range(24):
        for operation in (o for o in parameters.order[k].tolist() if o < 2):
            exact[k] = ADJUST[operation](exact[k], parameters.factors[k, operation].item())
    torch.testing.assert_close(augment.jitter(x, parameters), torch.stack(exact), rtol=0, atol=1e-6)
    assert torch.equal(augment.grayscale(x, 1.0), x)


# Blur -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [photos(), noise()], ids=["photos", "noise"])
def test_blur_is_pils(images):
    # PIL rounds to 8 bits after each of six passes, which on noise alone adds up to more than 2/255.
    radii = augment.draw_blur(24, 0.8)
    radii[:3] = torch.tensor([0.1, 1.9999, 5.0])
    result = augment.blur(augment.to_float(images), radii)
    pairs = zip(images, radii.tolist(), strict=True)
    exact = [pil(image).filter(ImageFilter.GaussianBlur(radius)) for image, radius in pairs]
    assert off_by(result, exact) < 3
    mean = np.stack([np.asarray(image) for image in exact]).mean(dtype=np.float64)
    assert abs(float(result.double().mean()) * 255 - mean) < 0.1
    assert torch.equal(result[radii == 0], augment.to_float(images)[radii == 0])


def test_blur_keeps_flat_images_and_has_the_gaussians_variance():
    radii = torch.tensor([0.3, 1.0, 2.0, 4.0])
    flat = torch.full((4, 1, 20, 27), 0.3)
    torch.testing.assert_close(augment.blur(flat, radii), flat)
    point = torch.zeros(4, 1, 65, 65, dtype=torch.float64)
    point[:, :, 32, 32] = 1
    line = augment.blur(point, radii).sum(2).squeeze(1)
    variance = (line * (torch.arange(65) - 32.0) ** 2).sum(1)
    torch.testing.assert_close(variance.sqrt().float(), radii, rtol=1e-4, atol=1e-5)


# All ------------------------------------------------------------------------------------------------------------------

BOTH = {
    "random_resized_crop": lambda x: augment.random_resized_crop(x, 16),
    "random_crop": lambda x: augment.random_crop(x, 4),
    "horizontal_flip": augment.horizontal_flip,
    "color_jitter": lambda x: augment.color_jitter(x, 0.4, 0.4, 0.4, 0.1),
    "grayscale": lambda x: augment.grayscale(x, 0.2),
    "gaussian_blur": lambda x: augment.gaussian_blur(x, 0.5),
}


@pytest.mark.parametrize("operation", BOTH.values(), ids=BOTH)
def test_operations_follow_the_seed_keep_the_range_and_leave_their_input(operation):
    x = augment.to_float(noise())
    before = x.clone()
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(operation(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(x, before)
    assert results[0].min() >= 0
    assert results[0].max() <= 1
    assert operation(x[:1]).shape[:2] == (1, 3)


def test_normalise_and_to_float_are_the_textbooks():
    images = noise()
    x = augment.to_float(images)
    torch.testing.assert_close(x, V.to_dtype(images, torch.float32, scale=True), rtol=0, atol=1e-7)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    torch.testing.assert_close(augment.normalise(x, mean, std), V.normalize(x, list(mean), list(std)))


def test_bad_input_is_named():
    x = torch.zeros(2, 4, 8, 8)
    with pytest.raises(ValueError, match="images have 4 channels: expected 1"):
        augment.grayscale(x, 1.0)
    with pytest.raises(ValueError, match="give uint8"):
        augment.to_float(x)
    with pytest.raises(ValueError, match="scale"):
        augment.draw_boxes(2, 8, 8, scale=(1.0, 0.5))
    with pytest.raises(ValueError, match="'nearest': choose from bilinear, bicubic"):
        augment.random_resized_crop(x[:, :3], 8, interpolation="nearest")
    with pytest.raises(ValueError, match="hue at most"):
        augment.draw_jitter(2, 0, 0, 0, 0.6)
    with pytest.raises(ValueError, match="sigma"):
        augment.draw_blur(2, 0.5, (0.0, 1.0))
