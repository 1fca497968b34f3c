"""A cell's images on the device, and how views and training images are drawn from them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retable.data.augment import color_jitter, grayscale, horizontal_flip, random_crop, random_resized_crop, to_float
from retable.data.containers import DataError
from retable.data.image_sets import ImageSet, ImageSplit

from .schedules import Augmentation
from .settings import Interpolation


@dataclass(frozen=True)
class Part:
    """Images uint8 (N, 3, H, W) and labels int64 (N,), on the device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def first(self, number: int) -> "Part":
        """The first `number` images; all if there are fewer."""
        return Part(self.x[:number], self.y[:number])


class Task:
    """Training, validation and test images of a cell; the test images are shuffled by a fixed seed.

    `unlabelled` is for pre-training: the images without a label (STL-10, as in the authors' code), or the training
    images if all have one. `train` holds those with a label.
    """

    def __init__(self, images: ImageSet, split: ImageSplit, device: torch.device) -> None:
        self.classes = len(images.classes)
        order = np.random.default_rng(len(split.test)).permutation(split.test)
        self.train, self.val, self.test = (
            Part(torch.from_numpy(images.images[rows]).to(device), torch.from_numpy(images.labels[rows]).to(device))
            for rows in (split.train, split.val, order)
        )
        self.unlabelled = self.train
        if (known := self.train.y >= 0).logical_not().any():
            self.unlabelled = Part(self.train.x[~known], self.train.y[~known])
            self.train = Part(self.train.x[known], self.train.y[known])
        present = torch.bincount(self.train.y, minlength=self.classes)
        if empty := (present == 0).nonzero().flatten().tolist():
            names = ", ".join(images.classes[number] for number in empty)
            raise DataError(f"{images.name}: no training image of class {names}; choose a split that has every class")
        height, width = images.images.shape[-2:]
        if height != width:
            raise DataError(f"{images.name}: images are {(height, width)}; expected squares")


def views(x: Tensor, augmentation: Augmentation, interpolation: Interpolation, *, flip: bool) -> Tensor:
    """Two independent views of each image, uint8 (N, 3, H, W), as rows 2i and 2i + 1 of float (2N, 3, H, W)."""
    a = augmentation
    pairs = to_float(x).repeat_interleave(2, 0)
    out = random_resized_crop(pairs, x.shape[-1], (a.smallest_crop, 1.0), a.aspect, interpolation)
    if flip:
        out = horizontal_flip(out, a.flip_probability)
    out = color_jitter(out, a.jitter, a.jitter, a.jitter, a.hue, a.jitter_probability)
    # Interpolation and jitter may leave [0, 1] by a rounding error; attacks start from inside.
    return grayscale(out, a.grayscale_probability).clamp(0, 1)


def training_images(x: Tensor, padding: int, *, flip: bool) -> Tensor:
    """Images for classifiers, uint8 (N, 3, H, W) to float in [0, 1]: a padded random crop and a flip."""
    out = random_crop(to_float(x), padding)
    return horizontal_flip(out) if flip else out
