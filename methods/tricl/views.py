"""Random views of images: the authors' pipeline for photographs, and one for digits, where colours mean nothing."""

from collections.abc import Callable

import torch
from torch import Tensor

from retable.data import augment

from .settings import ViewName


def photograph_view(x: Tensor) -> Tensor:
    """One view of images (B, 3, H, W) in [0, 1]: SimCLR's pipeline in the order of the authors' code."""
    return after_crop(
        augment.random_resized_crop(x, (x.shape[2], x.shape[3]), scale=(0.08, 1.0), interpolation="bicubic")
    )


def after_crop(x: Tensor) -> Tensor:
    """SimCLR's pipeline without its random crop, of images (B, 3, H, W) in [0, 1]."""
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


# Each draws from torch's global stream.
VIEWS: dict[ViewName, Callable[[Tensor], Tensor]] = {"photograph": photograph_view, "digit": digit_view}
