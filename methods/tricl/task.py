"""A set of images made ready for contrastive learning and for judging features."""

import numpy as np
import torch
from torch import Tensor, nn

from methods.tricl.models import embed
from retable.cards import CardError
from retable.data import augment
from retable.data.image_sets import ImageSet, ImageSplit
from retable.evaluate.probes import chosen_accuracy, probe

# One training image in so many chooses the probe's penalty where a split sets none aside.
HELD_OUT = 10


class Task:
    """Images on the device: ``train`` uint8 (N, 3, H, W), and parts with labels for evaluation, normalised floats."""

    def __init__(self, images: ImageSet, split: ImageSplit, device: torch.device) -> None:
        self.device = device
        self.classes = len(images.classes)
        self.train = torch.from_numpy(images.images[split.train]).to(device)
        # For CIFAR these are the constants of the authors' code to three digits.
        self.mean, self.std = channel_statistics(images.images[split.train])
        every = np.arange(len(split.train)) % HELD_OUT == 0
        fit, choose = (split.train, split.val) if len(split.val) else (split.train[~every], split.train[every])
        self.parts = []
        for places in (fit, choose, split.test):
            places = places[images.labels[places] >= 0]
            if not len(places):
                raise CardError(
                    f"{images.name}: no labelled images to fit, to choose or to test on; take another split"
                )
            labels = torch.from_numpy(images.labels[places]).to(device)
            self.parts.append((torch.from_numpy(images.images[places]).to(device), labels))

    def normalised(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] with mean 0 and deviation 1 over the training images, by channel."""
        return augment.normalise(x, self.mean, self.std)

    def rows(self, network: nn.Module) -> list[Tensor]:
        """What a network gives for the images that fit, choose and test."""
        return [embed(network, x, lambda part: self.normalised(augment.to_float(part))) for x, _ in self.parts]


def channel_statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and deviation by channel of uint8 (N, 3, H, W) over 255; from counts of values, so without a large copy."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        share = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
        mean = float(share @ values)
        means.append(mean)
        deviations.append(float(np.sqrt(share @ (values - mean) ** 2)))
    return means, deviations


def linear_accuracy(task: Task, rows: list[Tensor]) -> float:
    """Test accuracy in percent of a linear classifier on rows (N, d) that fit, choose its penalty, and test."""
    y = torch.cat([labels for _, labels in task.parts])
    part = torch.cat([torch.full((len(labels),), number) for number, (_, labels) in enumerate(task.parts)]).to(y.device)
    fit, choose, test = ((part == number)[None] for number in range(3))
    return chosen_accuracy(probe(torch.cat(rows), y, fit), choose, test)[0].item()
