"""Images as batches: parts, augmentation, and the accuracies of frozen features."""

from collections.abc import Callable, Iterator, Mapping, Sized

import numpy as np
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from retable.cards import CardError
from retable.data.augment import horizontal_flip, normalise, random_resized_crop, to_float
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit
from retable.data.image_sets import ImageSet, ImageSplit
from retable.data.loader import evaluation_batches, training_batches
from retable.evaluate.neighbours import vote_accuracy, weighted_knn
from retable.evaluate.probes import chosen_accuracy, probe
from retable.train.distributed import rank, world_size
from retable.train.parallel import shard

from .settings import PretrainSettings, TransferSettings

Batches = Iterator[tuple[Tensor, Tensor]]

# Mean and std of each channel.
STATISTICS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}
# Without validation images in the split, every tenth training image chooses the probe's penalty.
VALIDATION_STRIDE = 10
EVALUATION_BATCH = 500


class Task:
    """A labelled image set as batches; `parts` has at least `train` and `test`."""

    side: int
    channels: int
    classes: int
    parts: Mapping[str, Sized]

    def __init__(self, settings: PretrainSettings, device: torch.device) -> None:
        self.mean, self.std = STATISTICS[settings.statistics]
        self.flip, self.device = settings.flip, device

    def batches(self, batch_size: int, crop_low: float) -> Batches:
        """One epoch of normalised training images (B, C, S, S) and labels (B,), this process's share of each batch.

        Shuffled, cropped to a share of the area from `crop_low` to 1, and flipped, by torch's global generator.
        """
        raise NotImplementedError

    def whole(self, part: str) -> Batches:
        """Normalised images of a part without augmentation, and labels."""
        raise NotImplementedError

    def size(self, part: str) -> int:
        """Number of images of a part."""
        return len(self.parts[part])

    def steps(self, batch_size: int) -> int:
        """Steps of an epoch without its last, smaller batch. `CardError` if that leaves none."""
        images = self.size("train")
        if not 1 <= batch_size <= images:
            raise CardError(f"a batch of {batch_size} cannot be taken from {images} training images; set 1 to {images}")
        return images // batch_size

    @torch.no_grad()
    def accuracy(self, part: str, logits: Callable[[Tensor], Tensor]) -> float:
        """Accuracy in percent of the logits (B, classes) of a part's images (B, C, S, S)."""
        correct = sum(int((logits(images).argmax(1) == labels).sum()) for images, labels in self.whole(part))
        return 100 * correct / self.size(part)


class InMemory(Task):
    """Images uint8 (N, C, S, S) and labels on the device. `CardError` for images that are not square.

    Parts: `train`, `test`, and for the probe `fit` and `val`, which are disjoint and hold labelled images only.
    """

    parts: dict[str, Tensor]

    def __init__(self, images: ImageSet, split: ImageSplit, settings: PretrainSettings, device: torch.device) -> None:
        super().__init__(settings, device)
        self.channels, self.side, width = images.images.shape[1:]
        if width != self.side:
            raise CardError(f"{images.name}: images are {self.side} x {width}; U-MAE needs square ones")
        self.images = torch.from_numpy(images.images).to(device)
        self.labels = torch.from_numpy(images.labels).to(device)
        self.classes = len(images.classes)
        val, fit = split.val, split.train[images.labels[split.train] >= 0]
        if not len(val):
            val, fit = fit[::VALIDATION_STRIDE], np.delete(fit, np.s_[::VALIDATION_STRIDE])
        parts = {"train": split.train, "test": split.test, "val": val, "fit": fit}
        self.parts = {name: torch.from_numpy(indices).to(device) for name, indices in parts.items()}

    def batches(self, batch_size: int, crop_low: float) -> Batches:
        train = self.parts["train"]
        order = train[torch.randperm(len(train)).to(self.device)]
        for batch in order[: self.steps(batch_size) * batch_size].split(batch_size):
            x = to_float(self.images[batch])
            if crop_low < 1:
                x = random_resized_crop(x, self.side, (crop_low, 1.0), interpolation="bicubic")
            if self.flip:
                x = horizontal_flip(x)
            yield shard(normalise(x, self.mean, self.std)), shard(self.labels[batch])

    def whole(self, part: str) -> Batches:
        for batch in self.parts[part].split(EVALUATION_BATCH):
            yield normalise(to_float(self.images[batch]), self.mean, self.std), self.labels[batch]

    def accuracies(self, features: Tensor) -> tuple[dict[str, float], Tensor]:
        """Accuracies in percent of frozen features (N, D) of `fit`, `val` and `test` images in that order.

        Logistic regression (the best of six penalties on `val`), weighted 20-NN and plain 10-NN. Also returns the
        test features.
        """
        names = ("fit", "val", "test")
        labels = torch.cat([self.labels[self.parts[name]] for name in names])
        part = torch.cat([torch.full((self.size(name),), i, device=self.device) for i, name in enumerate(names)])
        fit, val, test = (part == i for i in range(3))
        on_test, on_val = chosen_accuracy(probe(features, labels, fit[None]), val[None], test[None])
        known, queries = features[fit].float(), features[test].float()

        def knn(k: int, temperature: float) -> float:
            votes = weighted_knn(known, labels[fit], queries, k=k, temperature=temperature)
            return vote_accuracy(votes, labels[test])

        accuracies = {
            "probe_accuracy": on_test.item(),
            "probe_val_accuracy": on_val.item(),
            "knn20_accuracy": knn(20, 0.07),
            # At so high a temperature all votes are equal.
            "knn10_accuracy": knn(10, 1e9),
        }
        return accuracies, queries


class FromFolder(Task):
    """Class folders of large images, which worker processes decode and crop to 224 pixels; parts `train` and `test`."""

    side, channels = 224, 3
    parts: dict[str, FolderImages]

    def __init__(self, images: FolderSet, split: FolderSplit, settings: TransferSettings, device: torch.device) -> None:
        super().__init__(settings, device)
        self.workers, self.pinned = settings.workers, device.type == "cuda"
        self.parts = {"train": split.train, "test": split.test}
        self.classes = len(images.classes)

    def batches(self, batch_size: int, crop_low: float) -> Batches:
        loaded = training_batches(
            self.parts["train"], self.side, batch_size, seed=int(torch.empty((), dtype=torch.int64).random_()),
            scale=(crop_low, 1.0), interpolation="bicubic", workers=self.workers, pinned=self.pinned,
            share=(rank(), world_size()),
        )  # fmt: skip
        for views, labels in loaded:
            x = to_float(views[:, 0].to(self.device, non_blocking=True))
            x = horizontal_flip(x) if self.flip else x
            yield normalise(x, self.mean, self.std), labels.to(self.device)

    def whole(self, part: str) -> Batches:
        """The centre crop of each image, its shorter side resized to 256 pixels."""
        loaded = evaluation_batches(
            self.parts[part], self.side, EVALUATION_BATCH, interpolation="bicubic", workers=self.workers,
            pinned=self.pinned,
        )  # fmt: skip
        for pixels, labels in loaded:
            yield normalise(to_float(pixels.to(self.device)), self.mean, self.std), labels.to(self.device)
