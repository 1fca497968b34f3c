"""Batches for the vision experiments: small sets from memory, ImageNet from its folder with DeiT's augmentation."""

from typing import Any

import torch
from torch import Tensor

from retable.cards import CardError, unknown
from retable.data.augment import horizontal_flip, random_crop
from retable.data.folder_images import FolderSet, FolderSplit
from retable.data.image_batches import IMAGENET, MemoryBatches
from retable.data.image_sets import ImageSet, ImageSplit
from retable.data.timm_batches import TimmBatches

from .settings import VisionSettings

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


def in_folder(images: FolderSet, split: FolderSplit, s: VisionSettings, device: torch.device) -> TimmBatches:
    """ImageNet's folder. ``augment`` is "deit": the published script's augmentation, made by timm.

    RandAugment, colour jitter, bicubic crops, random erasing, repeated augmentation, mixup and CutMix by batch, label
    smoothing: targets are probabilities (B, classes). For evaluation images are resized to 256 and centre-cropped to
    224 pixels.
    """
    # timm's loaders take seconds to import.
    from timm.data.mixup import Mixup
    from timm.data.transforms_factory import transforms_imagenet_eval, transforms_imagenet_train

    if s.augment != "deit":
        raise CardError(unknown("augment (of images in folders)", s.augment, ["deit"]))
    mean, std = IMAGENET
    common: dict[str, Any] = {"img_size": s.image_size, "interpolation": "bicubic", "mean": mean, "std": std}
    moved = transforms_imagenet_train(
        **common, color_jitter=s.color_jitter, auto_augment=s.auto_augment, re_prob=s.erasing, re_mode="pixel"
    )
    still = transforms_imagenet_eval(**common, crop_pct=CROP_SHARE)
    options = {"switch_prob": s.mix_switch, "label_smoothing": s.label_smoothing, "num_classes": len(images.classes)}
    mix = Mixup(s.mixup, s.cutmix, **options)
    return TimmBatches(images, split, (moved, still), mix, device, batch=s.batch, repeats=s.repeats, workers=s.workers)
