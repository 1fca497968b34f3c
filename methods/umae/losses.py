"""The losses: masked reconstruction (MAE, SimMIM) and the uniformity of features that U-MAE adds to it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.train.distributed import all_gather_with_grad


def patchify(images: Tensor, patch: int) -> Tensor:
    """Patches (N, L, patch^2 C) of images (N, C, H, W), row by row; inside a patch row, column, channel (fastest).

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


def standardised(patches: Tensor) -> Tensor:
    """Each patch (N, L, P) minus its mean, by its deviation (variance unbiased, + 1e-6): MAE's ``norm_pix_loss``."""
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def reconstruction_loss(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over hidden patches.

    ``prediction``, ``target`` (N, L, P), ``hidden`` (N, L) with 1 for hidden. The sum over all images by
    the count over all images, as in MAE's code. NaN if nothing is hidden.
    """
    return ((prediction - target).square().mean(-1) * hidden).sum() / hidden.sum()


def uniformity_loss(z: Tensor, emulate_world_size: int = 1) -> Tensor:
    """``mean_ij cos(z_i, z_j)^2`` over all ordered pairs of ``z`` (N, D), each with itself too: U-MAE's added term.

    In [max(1/N, 1/D), 1]: 1 when all features lie on one line. Rows of all processes count. Computed as
    ``||U^T U||_F^2 / N^2`` with unit rows U (or U U^T, whichever is smaller), in float32 at least.

    The authors' gather layer returns the gradient of a process' own rows only, and DistributedDataParallel then
    averages: on W processes the term's gradient is 1/W of the true one. ``emulate_world_size=W`` has that gradient on
    any number of processes, with the value unchanged; 1 is the true gradient. ``ValueError`` below 1.
    """
    if emulate_world_size < 1:
        raise ValueError(f"emulate_world_size is the authors' number of processes, 1 or more; got {emulate_world_size}")
    with torch.autocast(z.device.type, enabled=False):
        z = all_gather_with_grad(z if z.dtype == torch.float64 else z.float())
        unit = F.normalize(z, dim=1, eps=1e-12)
        gram = unit.T @ unit if unit.shape[1] < len(unit) else unit @ unit.T
        loss = gram.square().sum() / len(unit) ** 2
    return loss.detach() + (loss - loss.detach()) / emulate_world_size


def simmim_loss(reconstruction: Tensor, images: Tensor, hidden: Tensor) -> Tensor:
    """SimMIM's mean absolute error over hidden pixels of ``reconstruction``, ``images`` (N, C, S, S).

    ``hidden`` (N, G, G) with 1 for hidden tokens; each stands for a square of pixels. By the hidden pixels' count
    + 1e-5 (in float32, which loses it from 256 pixels on), then by the channels, as in SimMIM's code.
    """
    side = images.shape[-1] // hidden.shape[-1]
    pixels = hidden.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None].to(images.dtype)
    return ((images - reconstruction).abs() * pixels).sum() / (pixels.sum().float() + 1e-5) / images.shape[1]
