"""A set of images ready for training: parts, batches, augmentation, and what frozen features are judged by."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from retable.cards import CardError, Scalar, unknown
from retable.data.augment import horizontal_flip, normalise, random_resized_crop, to_float
from retable.data.folder_images import FolderSet, FolderSplit
from retable.data.image_sets import ImageSet, ImageSplit
from retable.data.loader import evaluation_batches, training_batches
from retable.evaluate.neighbours import vote_accuracy, weighted_knn
from retable.evaluate.probes import chosen_accuracy, probe
from retable.train.context import Context
from retable.train.distributed import rank, world_size
from retable.train.parallel import shard

Batches = Iterator[tuple[Tensor, Tensor]]

# Mean and deviation of each channel that images are normalised by.
STATISTICS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}
# Where a split sets nothing aside to choose on, every tenth training image serves the probe's choice.
CHOSEN_ON = 10
EVALUATION_BATCH = 500


def task_of(data: tuple, settings: dict[str, Scalar], context: Context) -> "InMemory | FromFolder":
    """The data of a cell ready for training; raises CardError for a normalisation that has no name here."""
    if settings["statistics"] not in STATISTICS:
        raise CardError(unknown("statistics", str(settings["statistics"]), list(STATISTICS)))
    images, split = data
    kind = FromFolder if isinstance(images, FolderSet) else InMemory
    return kind(images, split, settings, context)


class InMemory:
    """Images uint8 (N, C, S, S) on the device with labels and parts.

    Parts: `train`, `test`, and for the probe `fit` and `val`, which are disjoint and hold labelled images only (`fit`
    is those of `train` where the split has validation images). ``CardError`` for images that are not square.
    """

    def __init__(self, images: ImageSet, split: ImageSplit, settings: dict[str, Scalar], context: Context) -> None:
        self.channels, self.side, width = images.images.shape[1:]
        if width != self.side:
            raise CardError(f"{images.name}: images are {self.side} x {width}; U-MAE needs square ones")
        self.mean, self.std = STATISTICS[str(settings["statistics"])]
        self.settings, self.device = settings, context.device
        self.images = torch.from_numpy(images.images).to(self.device)
        self.labels = torch.from_numpy(images.labels).to(self.device)
        self.classes = len(images.classes)
        own_val = len(split.val) > 0
        labelled = split.train[images.labels[split.train] >= 0]
        parts = {
            "train": split.train,
            "test": split.test,
            "val": split.val if own_val else labelled[::CHOSEN_ON],
            "fit": labelled if own_val else np.delete(labelled, np.s_[::CHOSEN_ON]),
        }
        self.parts = {name: torch.from_numpy(places).to(self.device) for name, places in parts.items()}

    def size(self, part: str) -> int:
        """How many images a part has."""
        return len(self.parts[part])

    def steps(self, batch_size: int) -> int:
        """Steps of an epoch; a last batch that is not full is left out. ``CardError`` if that leaves none."""
        return _steps(self.size("train"), batch_size)

    def batches(self, batch_size: int, epoch: int, crop_low: float) -> Batches:
        """Normalised training images in random order, full batches only, and labels: this process's share of each.

        Cropped (from `crop_low` of the area to all of it) and flipped by chance, from torch's global stream.
        """
        places = self.parts["train"]
        order = places[torch.randperm(len(places)).to(self.device)]
        for chosen in order[: self.steps(batch_size) * batch_size].split(batch_size):
            x = to_float(self.images[chosen])
            if crop_low < 1:
                x = random_resized_crop(x, self.side, (crop_low, 1.0), interpolation="bicubic")
            if self.settings["flip"]:
                x = horizontal_flip(x)
            yield shard(normalise(x, self.mean, self.std)), shard(self.labels[chosen])

    def whole(self, part: str) -> Batches:
        """Normalised images of a part as they are, and labels, a few hundred at a time."""
        for chosen in self.parts[part].split(EVALUATION_BATCH):
            yield normalise(to_float(self.images[chosen]), self.mean, self.std), self.labels[chosen]

    def judge(self, features: Tensor) -> tuple[dict[str, float], Tensor]:
        """Accuracies in percent of frozen features (N, d) of `fit`, `val` and `test` images in that order.

        Logistic regression (one of six penalties, by validation), weighted 20-NN and plain 10-NN. Returns the test
        images' features beside.
        """
        sizes = [len(self.parts[name]) for name in ("fit", "val", "test")]
        labels = torch.cat([self.labels[self.parts[name]] for name in ("fit", "val", "test")])
        masks = torch.zeros(3, 1, len(labels), dtype=torch.bool, device=labels.device)
        for mask, piece in zip(masks, torch.arange(len(labels), device=labels.device).split(sizes), strict=True):
            mask[0, piece] = True
        fit, val, test = masks
        on_test, on_val = chosen_accuracy(probe(features, labels, fit), val, test)
        known, asked = features[fit[0]].float(), features[test[0]].float()

        def neighbours(k: int, temperature: float) -> float:
            votes = weighted_knn(known, labels[fit[0]], asked, k=k, temperature=temperature)
            return vote_accuracy(votes, labels[test[0]])

        accuracies = {
            "probe": on_test.item(),
            "probe_val": on_val.item(),
            "knn20": neighbours(20, 0.07),
            # So high a temperature makes all votes equal.
            "knn10": neighbours(10, 1e9),
        }
        return accuracies, asked


class FromFolder:
    """Class folders of large images, which worker processes decode and crop to 224 pixels; parts `train` and `test`."""

    side, channels = 224, 3

    def __init__(self, images: FolderSet, split: FolderSplit, settings: dict[str, Scalar], context: Context) -> None:
        self.settings, self.device, self.derive = settings, context.device, context.derive
        self.mean, self.std = STATISTICS[str(settings["statistics"])]
        self.folders = {"train": split.train, "test": split.test}
        self.classes = len(images.classes)
        self.loading: dict[str, Any] = {
            "interpolation": "bicubic",
            "workers": int(settings["workers"]),
            "pinned": context.device.type == "cuda",
        }
        self.share = (rank(), world_size())

    def size(self, part: str) -> int:
        """How many images a part has."""
        return len(self.folders[part])

    def steps(self, batch_size: int) -> int:
        """Steps of an epoch; a last batch that is not full is left out. ``CardError`` if that leaves none."""
        return _steps(self.size("train"), batch_size)

    def batches(self, batch_size: int, epoch: int, crop_low: float) -> Batches:
        """As InMemory's; order and crops depend on the epoch's number."""
        seed, scale = self.derive("images", epoch), (crop_low, 1.0)
        loaded = training_batches(
            self.folders["train"], self.side, batch_size, seed, scale=scale, share=self.share, **self.loading
        )
        for views, labels in loaded:
            x = to_float(views[:, 0].to(self.device, non_blocking=True))
            x = horizontal_flip(x) if self.settings["flip"] else x
            yield normalise(x, self.mean, self.std), labels.to(self.device)

    def whole(self, part: str) -> Batches:
        """The middle of each image of a part, after its shorter side was made 256 pixels, and labels."""
        for pixels, labels in evaluation_batches(self.folders[part], self.side, EVALUATION_BATCH, **self.loading):
            yield normalise(to_float(pixels.to(self.device)), self.mean, self.std), labels.to(self.device)


def _steps(images: int, batch_size: int) -> int:
    if not 1 <= batch_size <= images:
        raise CardError(f"a batch of {batch_size} cannot be taken from {images} training images; set 1 to {images}")
    return images // batch_size
