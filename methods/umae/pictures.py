"""Masked, reconstructed and original images side by side."""

import numpy as np
import torch

from retable.data.image_batches import MemoryBatches
from retable.evaluate.pictures import image_grid

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
    pixels = [task.pixels(unpatchify(patches, model.patch, task.channels)) for patches in columns]
    return image_grid(torch.stack(pixels, 1), MIN_SIDE, frame=2)
