"""triCL on 100 classes of ImageNet from your own folder, the data of the paper's retrieval figure; it needs a GPU.

The experiment is that of `images.py`; only the images come from folders, cropped by worker processes:

    retable run tricl/imagenet --scale full --datasets imagenet-100
"""

from collections.abc import Callable, Iterator

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from retable.cards import CardError
from retable.data import augment
from retable.data.folder_images import FolderImages, FolderSet, FolderSplit
from retable.data.loader import evaluation_batches, training_batches
from retable.experiment import Experiment
from retable.train.context import Context, Result

from .encoder import extract_features, fixed_batch_loss, make_encoder, make_optimiser, train_epoch
from .images import evaluate_features
from .models import TriCL, embed
from .settings import ImageNetSettings
from .task import HELD_OUT
from .views import after_crop

SIDE, EVALUATION_BATCH = 224, 256


class FolderTask:
    """A `task.Task` whose pixels stay on the disk until a batch is asked for."""

    def __init__(self, split: FolderSplit, workers: int, context: Context) -> None:
        self.train, self.test, self.size = split.train, split.test, len(split.train)
        self.device, self.derive, self.workers = context.device, context.derive, workers
        self.held_out = torch.arange(self.size) % HELD_OUT == 0
        train = torch.from_numpy(self.train.labels)
        parts = train[~self.held_out], train[self.held_out], torch.from_numpy(self.test.labels)
        self.labels = [part.to(self.device) for part in parts]

    def batches(self, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Two views of each image, (B, 3, 224, 224) each; order and crops depend on the epoch's number."""
        seed, pinned = self.derive("images", epoch), self.device.type == "cuda"
        loaded = training_batches(
            self.train, SIDE, batch_size, seed, views=2, interpolation="bicubic", workers=self.workers, pinned=pinned
        )
        for crops, _ in loaded:
            views = crops.to(self.device, non_blocking=True).unbind(1)
            yield tuple(_normalised(after_crop(augment.to_float(view))) for view in views)

    def features(self, network: nn.Module) -> list[Tensor]:
        """Outputs (N, d) of a network in evaluation mode for the centre crops of each part."""
        train, test = self._outputs(network, self.train), self._outputs(network, self.test)
        held_out = self.held_out.to(self.device)
        return [train[~held_out], train[held_out], test]

    def _outputs(self, network: nn.Module, images: FolderImages) -> Tensor:
        pinned = self.device.type == "cuda"
        loaded = evaluation_batches(
            images, SIDE, EVALUATION_BATCH, interpolation="bicubic", workers=self.workers, pinned=pinned
        )
        return torch.cat([embed(network, _normalised(augment.to_float(x.to(self.device)))) for x, _ in loaded])


def _normalised(x: Tensor) -> Tensor:
    return augment.normalise(x, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


class ImageNet(Experiment[ImageNetSettings]):
    """Train one encoder on images from folders."""

    settings_class = ImageNetSettings
    model: TriCL

    def __init__(self, settings: ImageNetSettings, context: Context) -> None:
        super().__init__(settings, context)
        images, split = context.data()
        if not isinstance(images, FolderSet):
            cell = context.cell
            raise CardError(f"{cell.dataset}: the recipe {cell.recipe} reads images from folders; use importance")
        self.task = FolderTask(split, settings.workers, context)
        context.seed_torch("weights")
        self.model = make_encoder(settings, SIDE).to(context.device).to(memory_format=torch.channels_last)

    def train(self) -> None:
        s, model = self.settings, self.model
        optimiser = make_optimiser(model, s)
        for epoch in self.context.epochs(s.epochs if s.trained else 0, model=model, optimiser=optimiser):
            self.context.log(epoch, **train_epoch(model, optimiser, self.task, epoch, s))

    def measure(self) -> Result:
        return evaluate_features(extract_features(self.model, self.task), self.task.labels, self.settings.top_dims)

    def fixed_batch(self) -> Callable[[], Tensor]:
        return fixed_batch_loss(self.model, self.task, self.context, self.settings)


EXPERIMENT = ImageNet
