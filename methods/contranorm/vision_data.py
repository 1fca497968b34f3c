"""Batches for the vision experiments: small sets from memory, ImageNet from its folder with DeiT's augmentation."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from retable.cards import CardError, unknown
from retable.data.augment import horizontal_flip, random_crop
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit
from retable.data.image_batches import MemoryBatches
from retable.data.image_sets import ImageSet, ImageSplit

from .settings import VisionSettings

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of evaluation: the crop's side over the resized image's, 224 / 256.
CROP_SHARE = 0.875


def in_memory(images: ImageSet, split: ImageSplit, s: VisionSettings, device: torch.device) -> MemoryBatches:
    """Images in memory. Channels are normalised by the training images' mean and std; empty parts are left out.

    ``augment`` is "none" or "crop-flip": four black pixels of padding, a random crop, a horizontal flip with
    probability 1/2.
    """
    if s.augment not in ("none", "crop-flip"):
        raise CardError(unknown("augment (of images in memory)", s.augment, ["none", "crop-flip"]))
    parts = {name: indices for name, indices in vars(split).items() if len(indices)}
    pixels = images.images[split.train] / 255
    statistics = pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).tolist()
    augment = crop_flip if s.augment == "crop-flip" else None
    return MemoryBatches(images, parts, statistics, augment, device, drop_last=False)


def crop_flip(x: Tensor) -> Tensor:
    """Images (B, 3, H, W) moved by up to four pixels, then mirrored with probability 1/2."""
    return horizontal_flip(random_crop(x, padding=4))


class FromFolder:
    """ImageNet's folder. ``augment`` is "deit": the published script's augmentation, made by timm.

    RandAugment, colour jitter, bicubic crops, random erasing, repeated augmentation (an epoch takes the first N of the
    repeated images), mixup and CutMix by batch, label smoothing: targets are probabilities (B, classes).
    """

    def __init__(self, images: FolderSet, split: FolderSplit, settings: VisionSettings, device: torch.device) -> None:
        # timm's loaders take seconds to import.
        from timm.data.distributed_sampler import RepeatAugSampler
        from timm.data.mixup import Mixup
        from timm.data.transforms_factory import transforms_imagenet_eval, transforms_imagenet_train

        s = settings
        if s.augment != "deit":
            raise CardError(unknown("augment (of images in folders)", s.augment, ["deit"]))
        self.batch, self.classes, self.device = s.batch, len(images.classes), device
        self.workers = s.workers
        side: dict[str, Any] = {"img_size": s.image_size, "interpolation": "bicubic"}
        colours: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        jittered = transforms_imagenet_train(
            **side,
            **colours,
            color_jitter=s.color_jitter,
            auto_augment=s.auto_augment,
            re_prob=s.erasing,
            re_mode="pixel",
        )
        still = transforms_imagenet_eval(**side, **colours, crop_pct=CROP_SHARE)
        self.train = split.train.transformed(jittered)
        self.parts = {"test": split.test.transformed(still), "train": split.train.transformed(still)}
        self.sampler = RepeatAugSampler(self.train, num_replicas=1, rank=0, num_repeats=s.repeats)
        self.mix = Mixup(
            mixup_alpha=s.mixup,
            cutmix_alpha=s.cutmix,
            switch_prob=s.mix_switch,
            label_smoothing=s.label_smoothing,
            num_classes=self.classes,
        )

    def training(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images (B, 3, H, W) and target probabilities (B, classes), from torch's global generator."""
        seed = int(torch.randint(2**32, ()))
        # timm draws from these two: mixup always, the rest where there are no worker processes.
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        self.sampler.set_epoch(seed)
        loader = self._loader(self.train, batch_size, sampler=self.sampler, drop_last=True)
        for x, y in loader:
            yield self.mix(x.to(self.device, non_blocking=True), y.to(self.device))

    def part(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The images of "train" or "test": resized to 256 and centre-cropped to 224 pixels; in order."""
        for x, y in self._loader(self.parts[name], self.batch):
            yield x.to(self.device, non_blocking=True), y.to(self.device)

    def _loader(self, images: FolderImages, batch_size: int, **options: Any) -> DataLoader:
        pinned = self.device.type == "cuda"
        return DataLoader(images, batch_size, num_workers=self.workers, pin_memory=pinned, **options)  # type: ignore[arg-type]
