"""triCL on 100 classes of ImageNet from your own folder, the data of the paper's retrieval figure; it needs a GPU.

The experiment is that of `images.py`; only the images come from folders, cropped by worker processes:

    retable run tricl/imagenet --scale full --datasets imagenet-100
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from retable.cards import CardError
from retable.data.folder_images import FolderSet, FolderSplit
from retable.data.image_batches import FolderBatches, held_out
from retable.experiment import Experiment
from retable.train.context import Context, Result

from .encoder import extract_features, fixed_batch_loss, make_encoder, make_optimiser, train_epoch
from .images import evaluate_features
from .models import TriCL, embed
from .settings import ImageNetSettings
from .views import VIEWS

SIDE, EVALUATION_BATCH = 224, 256


class FolderTask(FolderBatches):
    """A `task.Task` whose pixels stay on the disk until a batch is asked for."""

    def __init__(self, images: FolderSet, split: FolderSplit, workers: int, context: Context) -> None:
        statistics = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.crop_low, augment = VIEWS["photograph"]
        super().__init__(images, split, statistics, augment, context.device, workers=workers, side=SIDE)
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


class ImageNet(Experiment[ImageNetSettings]):
    """Train one encoder on images from folders."""

    model: TriCL

    def __init__(self, settings: ImageNetSettings, context: Context) -> None:
        super().__init__(settings, context)
        images, split = context.data()
        if not isinstance(images, FolderSet):
            cell = context.cell
            raise CardError(f"{cell.dataset}: the recipe {cell.recipe} reads images from folders; use importance")
        self.task = FolderTask(images, split, settings.workers, context)
        context.seed_torch("weights")
        self.model = make_encoder(settings, SIDE).to(context.device).to(memory_format=torch.channels_last)

    def train(self) -> None:
        s, model = self.settings, self.model
        optimiser = make_optimiser(model, s)
        for epoch in self.context.epochs(s.epochs if s.trained else 0, model=model, optimiser=optimiser):
            self.context.log(epoch, **train_epoch(model, optimiser, self.task, epoch, s))

    def measure(self) -> Result:
        return evaluate_features(extract_features(self.model, self.task), self.task.part_labels, self.settings.top_dims)

    def fixed_batch(self) -> Callable[[], Tensor]:
        return fixed_batch_loss(self.model, self.task, self.context, self.settings)


EXPERIMENT = ImageNet
