"""Labelled images as batches, from memory or from class folders, with the same methods.

A paper gives its augmentation and the mean and std of its channels; everything random comes from torch's global
generator unless a seed is given. Of several processes that share a run, each gets its share of a training batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized

import numpy as np
import torch
from torch import Tensor

from retable.cards import CardError
from retable.data.augment import normalise, random_resized_crop, to_float
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit
from retable.data.image_sets import ImageSet
from retable.data.loader import evaluation_batches, training_batches
from retable.train.distributed import rank, world_size
from retable.train.parallel import shard

# Without validation images in the split, one training image in so many is held out.
HELD_OUT = 10

Augmentation = Callable[[Tensor], Tensor]
Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and std of each channel, of pixels in [0, 1]."""
IMAGENET: Statistics = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageBatches(ABC):
    """A labelled image set as batches; `parts` has at least `train` and `test`."""

    channels: int
    side: int
    """Pixels."""
    parts: Mapping[str, Sized]

    def __init__(
        self, classes: tuple[str, ...], statistics: Statistics, augment: Augmentation | None, device: torch.device
    ) -> None:
        self.classes, self.device, self.augment = len(classes), device, augment
        self.mean, self.std = statistics

    @abstractmethod
    def training(self, batch_size: int, crop_low: float = 1.0, views: int = 1) -> Iterator[tuple[Tensor, ...]]:
        """One epoch of shuffled training images: their views (B, C, S, S) each, then their labels (B,).

        A view is cropped to a share of the area from `crop_low` to 1, augmented and normalised.
        """

    @abstractmethod
    def part(self, name: str, batch_size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images (B, C, S, S) of a part in order, without augmentation, and labels (B,)."""

    @abstractmethod
    def labels(self, part: str) -> Tensor:
        """Labels (N,) of a part, on the device."""

    def size(self, part: str) -> int:
        """Number of images of a part."""
        return len(self.parts[part])

    def steps(self, batch_size: int) -> int:
        """Steps of an epoch without its last, smaller batch. `CardError` if that leaves none."""
        images = self.size("train")
        if not 1 <= batch_size <= images:
            raise CardError(f"a batch of {batch_size} cannot be taken from {images} training images; set 1 to {images}")
        return images // batch_size

    def normalised(self, x: Tensor) -> Tensor:
        """Pixels (B, C, S, S) in [0, 1] by channel: minus the mean, over the std."""
        return normalise(x, self.mean, self.std)

    def pixels(self, x: Tensor) -> Tensor:
        """uint8 pixels of normalised images (B, C, S, S), cut off where they leave 0 to 255."""
        mean, std = (torch.tensor(values, device=x.device)[:, None, None] for values in (self.mean, self.std))
        return ((x * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)

    def augmented(self, x: Tensor) -> Tensor:
        """One view of pixels (B, C, S, S) in [0, 1], already cropped."""
        return self.normalised(x if self.augment is None else self.augment(x))


class MemoryBatches(ImageBatches):
    """Images uint8 (N, C, H, W) and labels (N,) on the device; `parts` are indices of images, by name.

    A short last training batch is left out with `drop_last`. Crops are bicubic; with `crop_low` 1 there are none.
    """

    parts: dict[str, Tensor]

    def __init__(
        self,
        images: ImageSet,
        parts: Mapping[str, np.ndarray],
        statistics: Statistics,
        augment: Augmentation | None,
        device: torch.device,
        *,
        drop_last: bool = True,
    ) -> None:
        super().__init__(images.classes, statistics, augment, device)
        self.channels, self.side = images.images.shape[1:3]
        self.x, self.y = torch.from_numpy(images.images).to(device), torch.from_numpy(images.labels).to(device)
        self.parts = {name: torch.from_numpy(indices).to(device) for name, indices in parts.items()}
        self.drop_last = drop_last

    def training(self, batch_size: int, crop_low: float = 1.0, views: int = 1) -> Iterator[tuple[Tensor, ...]]:
        train = self.parts["train"]
        for batch in shuffled_batches(len(train), batch_size, self.device, drop_last=self.drop_last):
            x, y = to_float(self.x[train[batch]]), self.y[train[batch]]
            yield *(shard(self.augmented(self._crop(x, crop_low))) for _ in range(views)), shard(y)

    def _crop(self, x: Tensor, low: float) -> Tensor:
        if low >= 1:
            return x
        return random_resized_crop(x, (x.shape[2], x.shape[3]), (low, 1.0), interpolation="bicubic")

    def part(self, name: str, batch_size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        rows = self.parts[name]
        yield from zip(self.whole(rows, batch_size), self.y[rows].split(batch_size), strict=True)

    def whole(self, places: Tensor, batch_size: int = 500) -> Iterator[Tensor]:
        """Normalised images (B, C, S, S) at places (N,) of the set, without augmentation."""
        for batch in places.split(batch_size):
            yield self.normalised(to_float(self.x[batch]))

    def labels(self, part: str) -> Tensor:
        return self.y[self.parts[part]]


class FolderBatches(ImageBatches):
    """Class folders of large images, which worker processes decode and crop to `side` pixels; full batches only.

    `part` gives the middle of each image, its shorter side resized to 256 pixels where `side` is 224.
    """

    channels = 3
    parts: dict[str, FolderImages]

    def __init__(
        self,
        images: FolderSet,
        split: FolderSplit,
        statistics: Statistics,
        augment: Augmentation | None,
        device: torch.device,
        *,
        workers: int,
        side: int = 224,
    ) -> None:
        super().__init__(images.classes, statistics, augment, device)
        self.parts, self.side, self.workers = {"train": split.train, "test": split.test}, side, workers
        self.pinned = device.type == "cuda"

    def training(
        self, batch_size: int, crop_low: float = 1.0, views: int = 1, *, seed: int | None = None
    ) -> Iterator[tuple[Tensor, ...]]:
        """As above; `seed` decides the order and the crops, without one torch's global generator does."""
        if seed is None:
            seed = int(torch.empty((), dtype=torch.int64).random_())
        loaded = training_batches(
            self.parts["train"], self.side, batch_size, seed, views=views, scale=(crop_low, 1.0),
            interpolation="bicubic", workers=self.workers, pinned=self.pinned, share=(rank(), world_size()),
        )  # fmt: skip
        for crops, y in loaded:
            cut = crops.to(self.device, non_blocking=True).unbind(1)
            yield *(self.augmented(to_float(x)) for x in cut), y.to(self.device)

    def part(self, name: str, batch_size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        loaded = evaluation_batches(
            self.parts[name], self.side, batch_size, interpolation="bicubic", workers=self.workers, pinned=self.pinned
        )
        for x, y in loaded:
            yield self.normalised(to_float(x.to(self.device))), y.to(self.device)

    def labels(self, part: str) -> Tensor:
        return torch.from_numpy(self.parts[part].labels).to(self.device)


def shuffled_batches(number: int, batch_size: int, device: torch.device, *, drop_last: bool) -> list[Tensor]:
    """Indices of `number` images in batches, shuffled by torch's global generator.

    With `drop_last` a short last batch is left out unless it is all there is.
    """
    batches = list(torch.randperm(number).to(device).split(batch_size))
    return batches[:-1] if drop_last and len(batches) > 1 and len(batches[-1]) < batch_size else batches


def held_out(train: np.ndarray, val: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices that fit a probe, and that choose its penalty: `val`, or if that is empty every tenth of `train`."""
    if len(val):
        return train, val
    return np.delete(train, np.s_[::HELD_OUT]), train[::HELD_OUT]
