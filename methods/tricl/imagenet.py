"""triCL on 100 classes of ImageNet from your own folder, the data of the paper's retrieval figure; it needs a GPU.

The experiment is that of `images.py`; only the images come from folders, cropped by worker processes:

    retable run tricl/imagenet --scale full --datasets imagenet-100
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from retable.cards import CardError
from retable.data.folder_images import FolderSet, FolderSplit
from retable.data.image_batches import IMAGENET, FolderBatches, held_out
from retable.train.context import Context

from .images import Images
from .models import embed
from .settings import ImageNetSettings
from .views import VIEWS

SIDE, EVALUATION_BATCH = 224, 256


class FolderTask(FolderBatches):
    """A `task.Task` whose pixels stay on the disk until a batch is asked for."""

    def __init__(self, images: FolderSet, split: FolderSplit, workers: int, context: Context) -> None:
        self.crop_low, augment = VIEWS["photograph"]
        super().__init__(images, split, IMAGENET, augment, context.device, workers=workers, side=SIDE)
        self.derive = context.derive
        indices = np.arange(len(split.train))
        self.fit, self.choose = (torch.from_numpy(part).to(self.device) for part in held_out(indices, indices[:0]))
        train = self.labels("train")
        self.part_labels = [train[self.fit], train[self.choose], self.labels("test")]

    def batches(self, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Two views of each image, (B, 3, 224, 224) each, and labels; order and crops depend on the epoch's number."""
        return self.training(batch_size, self.crop_low, views=2, seed=self.derive("images", epoch))

    def features(self, network: nn.Module) -> list[Tensor]:
        """Outputs (N, d) of a network in evaluation mode for the centre crops of each part."""
        train, test = (
            torch.cat([embed(network, x) for x, _ in self.part(name, EVALUATION_BATCH)]) for name in ("train", "test")
        )
        return [train[self.fit], train[self.choose], test]


class ImageNet(Images[ImageNetSettings]):
    """Train one encoder on images from folders."""

    def load(self) -> tuple[FolderTask, int]:
        images, split = self.context.data()
        if not isinstance(images, FolderSet):
            cell = self.context.cell
            raise CardError(f"{cell.dataset}: the recipe {cell.recipe} reads images from folders; use importance")
        return FolderTask(images, split, self.settings.workers, self.context), SIDE


EXPERIMENT = ImageNet
