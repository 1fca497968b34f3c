"""Batches for the vision experiments: small sets from memory, ImageNet from its folder with DeiT's augmentation."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from retable.cards import CardError, unknown
from retable.data.augment import horizontal_flip, normalise, random_crop, to_float
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit
from retable.data.image_sets import ImageSet, ImageSplit

from .settings import VisionSettings

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of evaluation: the crop's side over the resized image's, 224 / 256.
CROP_SHARE = 0.875


class InMemory:
    """An ImageSet on the device. Channels are normalised by the training images' mean and std.

    ``augment`` is "none" or "crop-flip": four black pixels of padding, a random crop, a horizontal flip with
    probability 1/2.
    """

    def __init__(self, images: ImageSet, split: ImageSplit, settings: VisionSettings, device: torch.device) -> None:
        self.augment = settings.augment
        if self.augment not in ("none", "crop-flip"):
            raise CardError(unknown("augment (of images in memory)", self.augment, ["none", "crop-flip"]))
        self.batch, self.classes = settings.batch, len(images.classes)
        self.y = torch.from_numpy(images.labels).to(device)
        self.x = torch.from_numpy(images.images).to(device)
        indices = {"train": split.train, "val": split.val, "test": split.test}
        self.parts = {name: torch.from_numpy(part).to(device) for name, part in indices.items() if len(part)}
        pixels = images.images[split.train] / 255
        self.mean, self.std = pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).tolist()

    def training(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images (B, 3, H, W) and labels (B,), in an order drawn from torch's global generator."""
        train = self.parts["train"]
        for indices in train[torch.randperm(len(train)).to(train.device)].split(self.batch):
            x = to_float(self.x[indices])
            if self.augment == "crop-flip":
                x = horizontal_flip(random_crop(x, padding=4))
            yield normalise(x, self.mean, self.std), self.y[indices]

    def part(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The images of "train", "val" or "test" without augmentation, in order."""
        for indices in self.parts[name].split(500):
            yield normalise(to_float(self.x[indices]), self.mean, self.std), self.y[indices]


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

    def training(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images (B, 3, H, W) and target probabilities (B, classes), from torch's global generator."""
        seed = int(torch.randint(2**32, ()))
        # timm draws from these two: mixup always, the rest where there are no worker processes.
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        self.sampler.set_epoch(seed)
        loader = self._loader(self.train, sampler=self.sampler, drop_last=True)
        for x, y in loader:
            yield self.mix(x.to(self.device, non_blocking=True), y.to(self.device))

    def part(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The images of "train" or "test": resized to 256 and centre-cropped to 224 pixels; in order."""
        for x, y in self._loader(self.parts[name]):
            yield x.to(self.device, non_blocking=True), y.to(self.device)

    def _loader(self, images: FolderImages, **options: Any) -> DataLoader:
        pinned = self.device.type == "cuda"
        return DataLoader(images, self.batch, num_workers=self.workers, pin_memory=pinned, **options)  # type: ignore[arg-type]
