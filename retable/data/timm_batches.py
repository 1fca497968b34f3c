"""Batches of a folder of images by timm's transforms, with repeated augmentation and mixed targets: DeiT's pipeline."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from retable.data.folder_images import FolderImages, FolderSet, FolderSplit

Transform = Callable[[Any], Tensor]


class TimmBatches:
    """`moved` and `still` transform images for training and for evaluation, `mix` a training batch and its labels.

    An epoch takes the first N of the N training images, each repeated `repeats` times.
    """

    def __init__(
        self,
        images: FolderSet,
        split: FolderSplit,
        transforms: tuple[Transform, Transform],
        mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        device: torch.device,
        *,
        batch: int,
        repeats: int,
        workers: int,
    ) -> None:
        from timm.data.distributed_sampler import RepeatAugSampler  # timm's loaders take seconds to import

        moved, still = transforms
        self.classes, self.device, self.mix = len(images.classes), device, mix
        self.batch, self.workers = batch, workers
        self.train = split.train.transformed(moved)
        self.parts = {"test": split.test.transformed(still), "train": split.train.transformed(still)}
        self.sampler = RepeatAugSampler(self.train, num_replicas=1, rank=0, num_repeats=repeats)

    def training(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images (B, 3, H, W) and target probabilities (B, classes), from torch's global generator."""
        seed = int(torch.randint(2**32, ()))
        # timm draws from these two: mixup always, the rest where there are no worker processes.
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        self.sampler.set_epoch(seed)
        for x, y in self._loader(self.train, batch_size, sampler=self.sampler, drop_last=True):
            yield self.mix(x.to(self.device, non_blocking=True), y.to(self.device))

    def part(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The images of "train" or "test", transformed for evaluation, and labels (B,); in order."""
        for x, y in self._loader(self.parts[name], self.batch):
            yield x.to(self.device, non_blocking=True), y.to(self.device)

    def _loader(self, images: FolderImages, batch_size: int, **options: Any) -> DataLoader:
        pinned = self.device.type == "cuda"
        return DataLoader(images, batch_size, num_workers=self.workers, pin_memory=pinned, **options)  # type: ignore[arg-type]
