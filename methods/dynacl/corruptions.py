"""Common corruptions of images, a small deterministic set of our own (not CIFAR-10-C): five kinds, three severities."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur


def noise(x: Tensor, std: float) -> Tensor:
    """Gaussian noise, the same for the same shape."""
    generator = torch.Generator().manual_seed(0)
    return x + std * torch.randn(x.shape, generator=generator).to(x)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `sigma` pixels, 5 x 5."""
    return gaussian_blur(x, [5, 5], [sigma, sigma])


def contrast(x: Tensor, factor: float) -> Tensor:
    """Differences from the image's mean shrink to `factor`."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + factor * (x - mean)


def brightness(x: Tensor, by: float) -> Tensor:
    """All pixels rise by `by`."""
    return x + by


def pixelate(x: Tensor, factor: float) -> Tensor:
    """Down to `factor` of the size by averaging, and up again without smoothing."""
    small = [max(1, round(factor * side)) for side in x.shape[-2:]]
    return F.interpolate(F.interpolate(x, small, mode="area"), x.shape[-2:], mode="nearest")


KINDS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...]]] = {
    "noise": (noise, (0.04, 0.08, 0.12)),
    "blur": (blur, (0.5, 0.8, 1.2)),
    "contrast": (contrast, (0.7, 0.45, 0.25)),
    "brightness": (brightness, (0.1, 0.2, 0.3)),
    "pixelate": (pixelate, (0.75, 0.5, 0.25)),
}


def corrupted(x: Tensor) -> Iterator[tuple[str, int, Tensor]]:
    """Kind, severity (from 1) and corrupted images in [0, 1] of images (B, 3, H, W) in [0, 1]."""
    for name, (function, levels) in KINDS.items():
        for severity, level in enumerate(levels, 1):
            yield name, severity, function(x, level).clamp(0, 1)
