"""The uniformity loss of U-MAE, and the reconstruction losses of MAE and SimMIM that it is added to."""

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.train.distributed import all_gather_with_grad


def uniformity_loss(z: Tensor, emulate_world_size: int = 1) -> Tensor:
    """U-MAE's added loss: ``mean_ij cos(z_i, z_j)^2`` over all ordered pairs of ``z`` (N, D), self pairs included.

    In [max(1/N, 1/D), 1]; 1 when all features are collinear. The rows of all processes are compared. Computed as
    ``||U^T U||_F^2 / N^2`` with unit rows U (or by U U^T, whichever is smaller), in float32 or higher.

    The authors' gather layer returns the gradient of a process's own rows only, and DistributedDataParallel then
    averages: on W processes the gradient is 1/W of the true one. ``emulate_world_size=W`` gives that gradient on any
    number of processes, with the same value; 1 gives the true gradient. ``ValueError`` below 1.
    """
    if emulate_world_size < 1:
        raise ValueError(f"emulate_world_size is the authors' number of processes, 1 or more; got {emulate_world_size}")
    with torch.autocast(z.device.type, enabled=False):
        z = all_gather_with_grad(z if z.dtype == torch.float64 else z.float())
        unit = F.normalize(z, dim=1, eps=1e-12)
        gram = unit.T @ unit if unit.shape[1] < len(unit) else unit @ unit.T
        loss = gram.square().sum() / len(unit) ** 2
    return loss.detach() + (loss - loss.detach()) / emulate_world_size


def patchify(images: Tensor, patch: int) -> Tensor:
    """Patches (N, L, patch^2 C) of images (N, C, H, W) in row-major order, each flattened as (row, column, channel).

    ``ValueError`` if the images' sides are not multiples of ``patch``.
    """
    n, channels, height, width = images.shape
    if height % patch or width % patch:
        raise ValueError(f"images are {height} x {width}: their sides must be multiples of the patch side {patch}")
    x = images.reshape(n, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, patch * patch * channels)


def unpatchify(patches: Tensor, patch: int, channels: int = 3) -> Tensor:
    """Square images (N, C, S, S) from their patches (N, L, patch^2 C): the inverse of :func:`patchify`."""
    n, length, _ = patches.shape
    grid = round(length**0.5)
    x = patches.reshape(n, grid, grid, patch, patch, channels)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(n, channels, grid * patch, grid * patch)


def normalize_patches(patches: Tensor) -> Tensor:
    """Patches (N, L, P), each minus its mean and over its std (unbiased variance + 1e-6): MAE's ``norm_pix_loss``."""
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def reconstruction_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of masked patches: ``prediction`` and ``target`` (N, L, P), ``mask`` (N, L), 1 for masked.

    The mean is over the masked patches of the whole batch, as in MAE's code. NaN if no patch is masked.
    """
    return ((prediction - target).square().mean(-1) * mask).sum() / mask.sum()


def simmim_loss(reconstruction: Tensor, images: Tensor, mask: Tensor) -> Tensor:
    """SimMIM's mean absolute error of masked pixels: ``reconstruction``, ``images`` (N, C, S, S).

    ``mask`` (N, G, G) with 1 for masked tokens of S / G pixels a side. The sum is divided by the number of masked
    pixels + 1e-5 (without effect in float32 from 256 pixels on) and by the channels, as in SimMIM's code.
    """
    side = images.shape[-1] // mask.shape[-1]
    pixels = mask.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None].to(images.dtype)
    return ((images - reconstruction).abs() * pixels).sum() / (pixels.sum().float() + 1e-5) / images.shape[1]
