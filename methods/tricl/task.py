"""Images in batches of views for contrastive learning, and in three labelled parts for the evaluation of features."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from retable.cards import CardError
from retable.data import augment
from retable.data.image_sets import ImageSet, ImageSplit
from retable.evaluate.probes import chosen_accuracy, probe

from .models import embed
from .settings import ViewName
from .views import VIEWS

# Where a split has no validation images, one training image in so many chooses the probe's penalty.
HELD_OUT = 10


class Task(Protocol):
    """What training and evaluation need of the images, wherever they are stored."""

    size: int
    """Training images."""
    labels: list[Tensor]
    """Of the parts that fit the probe, choose its penalty, and test."""

    def batches(self, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Two views (B, 3, H, W) of the training images in a random order, full batches only."""

    def features(self, network: nn.Module) -> list[Tensor]:
        """Outputs (N, d) of a network for the images of each part."""


class MemoryTask:
    """Images in memory: `train` uint8 (N, 3, H, W) and the three parts, on the device."""

    def __init__(self, images: ImageSet, split: ImageSplit, view: ViewName, device: torch.device) -> None:
        self.device, self.view = device, VIEWS[view]
        self.train = torch.from_numpy(images.images[split.train]).to(device)
        self.size = len(self.train)
        # For CIFAR these are the constants of the authors' code to three digits.
        self.mean, self.std = channel_statistics(images.images[split.train])
        held_out = np.arange(len(split.train)) % HELD_OUT == 0
        fit, choose = (split.train, split.val) if len(split.val) else (split.train[~held_out], split.train[held_out])
        self.images, self.labels = [], []
        for indices in (fit, choose, split.test):
            indices = indices[images.labels[indices] >= 0]
            if not len(indices):
                raise CardError(
                    f"{images.name}: no labelled images to fit, to choose or to test on; take another split"
                )
            self.images.append(torch.from_numpy(images.images[indices]).to(device))
            self.labels.append(torch.from_numpy(images.labels[indices]).to(device))

    def batches(self, batch_size: int, epoch: int, views: int = 2) -> Iterator[tuple[Tensor, ...]]:
        """Views (B, 3, H, W) of the training images; order and views come from torch's global stream."""
        order = torch.randperm(self.size).to(self.device)
        for indices in order.split(batch_size)[: self.size // batch_size]:
            x = augment.to_float(self.train[indices])
            yield tuple(self._normalised(self.view(x)) for _ in range(views))

    def features(self, network: nn.Module) -> list[Tensor]:
        """Outputs (N, d) of a network for the images of each part."""
        return [embed(network, x, lambda batch: self._normalised(augment.to_float(batch))) for x in self.images]

    def _normalised(self, x: Tensor) -> Tensor:
        return augment.normalise(x, self.mean, self.std)


def steps_per_epoch(task: Task, batch_size: int) -> int:
    """Full batches of the training images. CardError if there is none."""
    if batch_size > task.size:
        raise CardError(f"batch_size {batch_size}: the split has {task.size} training images; take fewer")
    return task.size // batch_size


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


def linear_accuracy(labels: list[Tensor], features: list[Tensor]) -> float:
    """Test accuracy in percent of logistic regression; features (N, d) of the parts that fit, choose and test."""
    y = torch.cat(labels)
    part = torch.cat([torch.full((len(rows),), number) for number, rows in enumerate(labels)]).to(y.device)
    fit, choose, test = ((part == number)[None] for number in range(3))
    return chosen_accuracy(probe(torch.cat(features), y, fit), choose, test)[0].item()
