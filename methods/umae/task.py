"""U-MAE's images: parts, normalisation and flips, and the accuracies of frozen features."""

from collections.abc import Callable

import torch
from torch import Tensor

from retable.cards import CardError
from retable.data.augment import horizontal_flip
from retable.data.folder_images import FolderSet, FolderSplit
from retable.data.image_batches import IMAGENET, FolderBatches, ImageBatches, MemoryBatches, held_out
from retable.data.image_sets import ImageSet, ImageSplit
from retable.evaluate.answers import beside
from retable.evaluate.neighbours import vote_accuracy, voted, weighted_knn
from retable.evaluate.probes import chosen_accuracy, chosen_answers, probe

from .settings import PretrainSettings, TransferSettings

# Mean and std of each channel.
STATISTICS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": IMAGENET,
}


def in_memory(images: ImageSet, split: ImageSplit, s: PretrainSettings, device: torch.device) -> MemoryBatches:
    """Images in memory. `CardError` for images that are not square.

    Parts: `train`, `test`, and for the probe `fit` and `val`, which are disjoint and hold labelled images only.
    """
    height, width = images.images.shape[2:]
    if width != height:
        raise CardError(f"{images.name}: images are {height} x {width}; U-MAE needs square ones")
    fit, val = held_out(split.train[images.labels[split.train] >= 0], split.val)
    parts = {"train": split.train, "test": split.test, "val": val, "fit": fit}
    return MemoryBatches(images, parts, STATISTICS[s.statistics], horizontal_flip if s.flip else None, device)


def from_folder(images: FolderSet, split: FolderSplit, s: TransferSettings, device: torch.device) -> FolderBatches:
    """Images in folders; parts `train` and `test`."""
    flip = horizontal_flip if s.flip else None
    return FolderBatches(images, split, STATISTICS[s.statistics], flip, device, workers=s.workers)


@torch.no_grad()
def accuracy(task: ImageBatches, part: str, logits: Callable[[Tensor], Tensor]) -> float:
    """Accuracy in percent of the logits (B, classes) of a part's images (B, C, S, S)."""
    return counted_accuracy(task, part, logits, "accuracy")["accuracy"]


@torch.no_grad()
def counted_accuracy(
    task: ImageBatches, part: str, logits: Callable[[Tensor], Tensor], metric: str
) -> dict[str, float]:
    """`accuracy` as a metric, and what is recorded beside one."""
    answers = [(logits(images).argmax(1), labels) for images, labels in task.part(part)]
    correct = sum(int((answer == labels).sum()) for answer, labels in answers)
    return {metric: 100 * correct / task.size(part)} | beside(metric, torch.cat([answer for answer, _ in answers]))


def accuracies(task: MemoryBatches, features: Tensor) -> tuple[dict[str, float], Tensor]:
    """Accuracies in percent of frozen features (N, D) of `fit`, `val` and `test` images in that order.

    Logistic regression (the best of six penalties on `val`), weighted 20-NN and plain 10-NN. Also returns the
    test features.
    """
    names = ("fit", "val", "test")
    labels = torch.cat([task.labels(name) for name in names])
    part = torch.cat([torch.full((task.size(name),), i, device=task.device) for i, name in enumerate(names)])
    fit, val, test = (part == i for i in range(3))
    probed = probe(features, labels, fit[None])
    on_test, on_val = chosen_accuracy(probed.right, val[None], test[None])
    known, queries = features[fit].float(), features[test].float()

    def knn(metric: str, k: int, temperature: float) -> dict[str, float]:
        votes = weighted_knn(known, labels[fit], queries, k=k, temperature=temperature)
        return {metric: vote_accuracy(votes, labels[test])} | beside(metric, voted(votes))

    found = {"probe_accuracy": on_test.item(), "probe_val_accuracy": on_val.item()}
    found |= chosen_answers("probe_accuracy", probed, val[None], test[None])
    found |= knn("knn20_accuracy", 20, 0.07)
    # At so high a temperature all votes are equal.
    return found | knn("knn10_accuracy", 10, 1e9), queries
