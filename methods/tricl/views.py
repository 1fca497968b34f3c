"""Random views of images: the authors' pipeline for photographs, and one for digits, where colours mean nothing."""

from collections.abc import Callable

import torch
from torch import Tensor

from retable.data import augment

from .settings import ViewName


def photograph_view(x: Tensor) -> Tensor:
    """A crop (B, 3, H, W) in [0, 1] after the rest of SimCLR's pipeline, in the order of the authors' code."""
    x = augment.color_jitter(x, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, p=0.8)
    x = augment.grayscale(x, p=0.2)
    x = augment.gaussian_blur(x, p=0.5, sigma=(0.1, 2.0))
    return augment.horizontal_flip(x, p=0.5)


def digit_view(x: Tensor) -> Tensor:
    """One view of digits (B, C, H, W): shifted by up to 2 pixels, lighter or darker, noisy, with pixels dropped."""
    x = augment.random_crop(x, padding=2)
    x = x * torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(0.6, 1.4)
    x = x + 0.15 * torch.randn_like(x[:, :1])
    return x * (torch.rand_like(x[:, :1]) > 0.15)


# The smallest share of the area that a view is cropped to, and what follows; each draws from torch's global stream.
VIEWS: dict[ViewName, tuple[float, Callable[[Tensor], Tensor]]] = {
    "photograph": (0.08, photograph_view),
    "digit": (1.0, digit_view),
}
