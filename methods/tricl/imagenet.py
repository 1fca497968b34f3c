"""triCL on 100 classes of ImageNet from your own folder, the data of the paper's retrieval figure; it wants a GPU.

The story is that of `images.py`; only the images come from folders, cropped by worker processes:

    retable run tricl/imagenet --scale full --datasets imagenet-100
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from methods.tricl.images import Training, batch_loss, make_learner, measure
from methods.tricl.models import TriCL
from methods.tricl.task import HELD_OUT, Task
from retable.cards import CardError, Scalar
from retable.data import augment
from retable.data.folder_images import FolderSet, FolderSplit
from retable.data.loader import evaluation_batches, training_batches
from retable.plan import Cell
from retable.train.context import Context, Result
from retable.train.schedules import warmup_cosine_step

SIDE, EVALUATION_BATCH = 224, 256


class FolderTask:
    """What `task.Task` is for images in memory: parts with labels for evaluation, whose pixels stay on the disk.

    One training image in ten chooses the probe's penalty, as there.
    """

    def __init__(self, images: FolderSet, split: FolderSplit, settings: dict[str, Scalar], context: Context) -> None:
        self.device, self.derive = context.device, context.derive
        self.classes = len(images.classes)
        self.train, self.test = split.train, split.test
        self.every = torch.arange(len(self.train)) % HELD_OUT == 0
        labels = torch.from_numpy(self.train.labels)
        # Pixels of a part are read when they are asked for: see `rows`.
        self.parts = [
            (None, part.to(self.device))
            for part in (labels[~self.every], labels[self.every], torch.from_numpy(self.test.labels))
        ]
        self.loading: dict[str, Any] = {
            "interpolation": "bicubic",
            "workers": int(settings["workers"]),
            "pinned": context.device.type == "cuda",
        }

    def normalised(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] by ImageNet's mean and deviation."""
        return augment.normalise(x, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)

    def batches(self, batch: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Two views of each image, (B, 3, 224, 224) each; order and crops depend on the epoch's number."""
        loaded = training_batches(self.train, SIDE, batch, self.derive("images", epoch), views=2, **self.loading)
        for pixels, _ in loaded:
            first, second = pixels.to(self.device, non_blocking=True).unbind(1)
            yield self.normalised(coloured(first)), self.normalised(coloured(second))

    @torch.no_grad()
    def rows(self, network: nn.Module) -> list[Tensor]:
        """What a network in evaluation mode gives for the middles of images that fit, choose and test."""
        was_training = network.training
        network.eval()
        found = []
        for images in (self.train, self.test):
            loaded = evaluation_batches(images, SIDE, EVALUATION_BATCH, **self.loading)
            found.append(torch.cat([network(self.normalised(augment.to_float(x.to(self.device)))) for x, _ in loaded]))
        network.train(was_training)
        every = self.every.to(self.device)
        return [found[0][~every], found[0][every], found[1]]


def coloured(crops: Tensor) -> Tensor:
    """What follows the crop in `views.photograph_view`, of bytes (B, 3, H, W)."""
    x = augment.color_jitter(augment.to_float(crops), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, p=0.8)
    x = augment.gaussian_blur(augment.grayscale(x, p=0.2), p=0.5, sigma=(0.1, 2.0))
    return augment.horizontal_flip(x, p=0.5)


def train_epoch(task: FolderTask, training: Training, number: int) -> dict[str, float]:
    """One pass over the training images, as `images.Training.epoch`; means of the loss and its parts."""
    s, learner = training.settings, training.learner.train()
    warmup, total = (round(float(s[key]) * training.steps) for key in ("warmup_epochs", "epochs"))
    sums: dict[str, Tensor] = {}
    for step, views in enumerate(task.batches(training.batch, number), (number - 1) * training.steps):
        for group, rate in zip(training.optimiser.param_groups, training.rates, strict=True):
            group["lr"] = warmup_cosine_step(step, rate, warmup, total, start=float(s["warmup_start"]))
        parts = batch_loss(learner, *views, s)
        training.optimiser.zero_grad()
        parts["loss"].backward()
        training.optimiser.step()
        sums = {name: sums.get(name, 0) + value.detach() for name, value in parts.items()}
    return {name: float(value) / training.steps for name, value in sums.items()}


def build(cell: Cell, context: Context) -> tuple[FolderTask, TriCL, Training]:
    """Folders, untrained network and its optimiser. CardError for data that are not in folders."""
    images, split = context.data()
    if not isinstance(images, FolderSet):
        raise CardError(f"{cell.dataset}: the recipe {cell.recipe} reads images from folders; use importance")
    task = FolderTask(images, split, cell.settings, context)
    context.seed_torch("weights")
    learner = make_learner(cell.settings, SIDE).to(context.device).to(memory_format=torch.channels_last)
    # Training asks its task for the number of images only.
    return task, learner, Training(cast(Task, task), learner, cell.settings)


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and measure it. Accuracies and precisions are in percent."""
    task, learner, training = build(cell, context)
    for epoch in context.epochs(int(cell.settings["epochs"]), learner=learner, optimiser=training.optimiser):
        context.log(epoch, **train_epoch(task, training, epoch))
    context.save_weights("last", learner.state_dict())
    return measure(cast(Task, task), learner, cell.settings)


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    task, learner, _ = build(cell, context)
    learner.load_state_dict(context.load_weights("last"))
    return measure(cast(Task, task), learner, cell.settings)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network and its loss on the first batch, with the same views each time."""
    task, learner, training = build(cell, context)
    context.seed_torch("fixed batch")
    first, second = next(task.batches(training.batch, 1))
    return learner, lambda: batch_loss(learner, first, second, cell.settings)["loss"]
