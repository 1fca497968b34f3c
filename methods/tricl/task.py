"""Images in batches of views for contrastive learning, and in three labelled parts for the evaluation of features."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from retable.cards import CardError
from retable.data.image_batches import MemoryBatches, held_out
from retable.data.image_sets import ImageSet, ImageSplit
from retable.evaluate.probes import chosen_accuracy, chosen_answers, probe

from .models import BATCH, embed
from .settings import ViewName
from .views import VIEWS

PARTS = ("fit", "choose", "test")


class Task(Protocol):
    """What training and evaluation need of the images, wherever they are stored."""

    part_labels: list[Tensor]
    """Of the parts that fit the probe, choose its penalty, and test."""

    def steps(self, batch_size: int) -> int:
        """Full batches of an epoch."""

    def batches(self, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Two views (B, 3, H, W) of the training images in a random order and labels (B,), full batches only."""

    def features(self, network: nn.Module) -> list[Tensor]:
        """Outputs (N, d) of a network for the images of each part."""


class MemoryTask(MemoryBatches):
    """Images in memory: those to train on, which may lack labels, and three labelled `PARTS`."""

    def __init__(self, images: ImageSet, split: ImageSplit, view: ViewName, device: torch.device) -> None:
        named = zip(PARTS, (*held_out(split.train, split.val), split.test), strict=True)
        parts = {name: part[images.labels[part] >= 0] for name, part in named}
        if not all(map(len, parts.values())):
            raise CardError(f"{images.name}: no labelled images to fit, to choose or to test on; take another split")
        self.crop_low, augment = VIEWS[view]
        # For CIFAR these are the constants of the authors' code to three digits.
        statistics = channel_statistics(images.images[split.train])
        super().__init__(images, {"train": split.train} | parts, statistics, augment, device)
        self.part_labels = [self.labels(name) for name in PARTS]

    def batches(self, batch_size: int, epoch: int, views: int = 2) -> Iterator[tuple[Tensor, ...]]:
        """Views (B, 3, H, W) of the training images and labels; all chance comes from torch's global stream."""
        return self.training(batch_size, self.crop_low, views)

    def features(self, network: nn.Module) -> list[Tensor]:
        """Outputs (N, d) of a network for the images of each part."""
        return [torch.cat([embed(network, x) for x, _ in self.part(name, BATCH)]) for name in PARTS]


def channel_statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and std by channel of uint8 (N, 3, H, W) over 255; from counts of values, so without a large copy."""
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        share = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
        mean = float(share @ values)
        means.append(mean)
        stds.append(float(np.sqrt(share @ (values - mean) ** 2)))
    return means, stds


def linear_accuracy(metric: str, labels: list[Tensor], features: list[Tensor]) -> dict[str, float]:
    """Test accuracy in percent of logistic regression, as a metric with what is recorded beside one; features (N, d) of
    the parts that fit, choose and test.
    """
    y = torch.cat(labels)
    part = torch.cat([torch.full((len(rows),), number) for number, rows in enumerate(labels)]).to(y.device)
    fit, choose, test = ((part == number)[None] for number in range(3))
    probed = probe(torch.cat(features), y, fit)
    accuracy = chosen_accuracy(probed.right, choose, test)[0].item()
    return {metric: accuracy} | chosen_answers(metric, probed, choose, test)
