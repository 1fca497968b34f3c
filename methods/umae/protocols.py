"""A model of somebody else's under this paper's evaluation: `retable.benchmark(model, protocol="umae/pretrain")`."""

from collections.abc import Callable

import torch
from torch import Tensor

from retable.train.context import Context

from .pretrain import evaluate_features, load_images
from .settings import PretrainSettings


def pretrain(model: Callable[[Tensor], Tensor], settings: PretrainSettings, context: Context) -> dict[str, float]:
    """From images (N, 3, H, W) in [0, 1] to features (N, D): linear probe, nearest neighbours, effective rank."""
    task = load_images(settings, context)
    parts = (images for name in ("fit", "val", "test") for images, _ in task.part(name))
    features = torch.cat([model(task.pixels(images).float() / 255) for images in parts])
    return evaluate_features("cls", features, task)[0]


PROTOCOLS = {"pretrain": pretrain}
