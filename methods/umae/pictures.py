"""Masked, reconstructed and original images side by side."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retable.data.image_batches import MemoryBatches

from .losses import patchify, unpatchify
from .mae import MAE
from .simmim import SimMIM

IMAGES, MIN_SIDE = 8, 96


@torch.no_grad()
def reconstructions(task: MemoryBatches, model: MAE | SimMIM) -> np.ndarray:
    """Test images uint8 (H, W, 3), one a row: masked | reconstructed | original. Masks from torch's global generator.

    Predictions of standardised patches get the true patch's mean and std back.
    """
    model.eval()
    images = next(task.part("test"))[0][:IMAGES]
    out = model(images, model.draw(len(images), task.device))
    original = patchify(images, model.patch)
    prediction = out.prediction.to(original.dtype)
    if model.norm_pixels:
        prediction = prediction * (original.var(-1, keepdim=True) + 1e-6).sqrt() + original.mean(-1, keepdim=True)
    mask = out.mask[..., None].to(original.dtype)
    columns = (original * (1 - mask), original * (1 - mask) + prediction * mask, original)
    return np.concatenate([_column(patches, model.patch, task) for patches in columns], axis=1)


def _column(patches: Tensor, patch: int, task: MemoryBatches) -> np.ndarray:
    """Images (N, L, P) one below the other, enlarged by a whole factor, with a white frame around each."""
    x = unpatchify(patches, patch, task.channels).cpu()
    mean, std = (torch.tensor(values)[:, None, None] for values in (task.mean, task.std))
    pixels = ((x * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    factor = max(1, MIN_SIDE // task.side)
    large = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    framed = F.pad(large, (2, 2, 2, 2), value=255)
    return torch.cat(list(framed), 1).permute(1, 2, 0).numpy()
