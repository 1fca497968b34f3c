"""Batches from class folders too large for memory: torch's DataLoader decodes and crops, the rest is batched later.

Worker processes open an image and cut its views out; colour, blur and the like follow on the whole batch, on its
device, with `retable.data.augment`. The order and each crop depend on a seed and the image's number alone: not on the
number of workers, what ran before, or torch's global stream, so a run that goes on at an epoch sees what it would have.
"""

import sys
from collections.abc import Iterator

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from retable.data.augment import Range, draw_boxes
from retable.data.containers import DataError
from retable.data.folder_images import FolderImages

FILTERS = {"bilinear": Resampling.BILINEAR, "bicubic": Resampling.BICUBIC}
# What a worker hands over: pixels and label, or why there are none.
Item = tuple[Tensor, int] | DataError


def training_batches(
    images: FolderImages,
    size: int,
    batch: int,
    seed: int,
    *,
    views: int = 1,
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
    workers: int = 0,
    unreadable: str = "stop",
    pinned: bool = False,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in the order that `seed` decides: random resized crops, uint8 (B, views, 3, size, size), labels (B,).

    A last batch that is not full is left out. `seed`: `context.derive("images", epoch)`, say. An image that cannot be
    decoded raises DataError, or with `unreadable="skip"` is left out of its batch, with a line on stderr. `pinned`
    puts batches where a GPU can fetch them without waiting. `share` (k, n) gives every n-th image of each batch, from
    the k-th (0 is the first). ValueError for an unknown filter or treatment.
    """
    if unreadable not in ("stop", "skip"):
        raise ValueError(f"unreadable={unreadable!r}: choose from stop, skip")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    which, shares = share
    indices = [part[which::shares].tolist() for part in order.split(batch) if len(part) == batch]
    crops = _Crops(images, size, views, scale, ratio, _filter(interpolation), seed)
    yield from _batches(crops, indices, workers, unreadable == "skip", pinned)


def evaluation_batches(
    images: FolderImages,
    size: int,
    batch: int,
    *,
    share: float = 0.875,
    interpolation: str = "bilinear",
    workers: int = 0,
    pinned: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order: the middle `size` x `size` after the shorter side was made `size / share` (256 for 224).

    Gives uint8 (B, 3, size, size) and labels (B,). Raises DataError for an image that cannot be decoded: what is
    reported must be of all images.
    """
    indices = [part.tolist() for part in torch.arange(len(images)).split(batch)]
    middles = _Middles(images, size, round(size / share), _filter(interpolation))
    yield from _batches(middles, indices, workers, False, pinned)


class _Crops(Dataset):
    """Random views of each image: the same for the same seed and image."""

    def __init__(
        self, images: FolderImages, size: int, views: int, scale: Range, ratio: Range, filter_: Resampling, seed: int
    ) -> None:
        self.images, self.size, self.views, self.scale, self.ratio = images, size, views, scale, ratio
        self.filter, self.seed = filter_, seed

    def __getitem__(self, index: int) -> Item:
        try:
            image, label = self.images[index]
        except DataError as error:
            return error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((self.seed + index) % 2**63)
            boxes = draw_boxes(self.views, image.height, image.width, self.scale, self.ratio).tolist()
        cut = [image.crop((left, top, left + width, top + height)) for top, left, height, width in boxes]
        return torch.stack([_pixels(part.resize((self.size, self.size), self.filter)) for part in cut]), label


class _Middles(Dataset):
    """The middle of each image, resized first."""

    def __init__(self, images: FolderImages, size: int, shorter: int, filter_: Resampling) -> None:
        self.images, self.size, self.shorter, self.filter = images, size, shorter, filter_

    def __getitem__(self, index: int) -> Item:
        try:
            image, label = self.images[index]
        except DataError as error:
            return error
        # torchvision's rule: the longer side is cut off, not rounded; the middle's corner is rounded.
        factor = self.shorter / min(image.size)
        sides = tuple(self.shorter if side == min(image.size) else int(side * factor) for side in image.size)
        image = image.resize(sides, self.filter)
        left, top = (round((side - self.size) / 2) for side in sides)
        return _pixels(image.crop((left, top, left + self.size, top + self.size))), label


def _pixels(image: Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _filter(name: str) -> Resampling:
    if name not in FILTERS:
        raise ValueError(f"interpolation {name!r}: choose from {', '.join(FILTERS)}")
    return FILTERS[name]


def _batches(
    images: Dataset, indices: list[list[int]], workers: int, skip: bool, pinned: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    # A generator of its own: the loader draws a number for its workers, by default from torch's global stream.
    loader: DataLoader = DataLoader(
        images,
        batch_sampler=indices,
        num_workers=workers,
        collate_fn=_together,
        pin_memory=pinned,
        generator=torch.Generator(),
    )
    for x, y, problems in loader:
        for problem in problems:
            if not skip:
                raise DataError(problem)
            print(f"left out: {problem}", file=sys.stderr)
        if len(y):
            yield x, y


def _together(items: list[Item]) -> tuple[Tensor, Tensor, list[str]]:
    """A batch, and what was wrong with the images that are not in it."""
    good = [item for item in items if not isinstance(item, DataError)]
    x = torch.stack([pixels for pixels, _ in good]) if good else torch.empty(0, dtype=torch.uint8)
    return x, torch.tensor([label for _, label in good]), [str(item) for item in items if isinstance(item, DataError)]
