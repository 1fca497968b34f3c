"""triCL on images: an encoder trained without labels, then what its most and least important features are worth.

On digits the first eight features of tri-SCL are nearly as good as all of them, and the last eight are not:

    retable run tricl/importance --scale demo
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.evaluate.answers import beside
from retable.evaluate.neighbours import retrieval, vote_accuracy, voted, weighted_knn
from retable.evaluate.pictures import image_grid
from retable.experiment import Experiment
from retable.train.context import Context, Result

from .encoder import Features, extract_features, fixed_batch_loss, make_encoder, make_optimiser, train_epoch
from .importance import importance_order, purity, second_moment, selected, spread
from .models import TriCL, embed
from .settings import ImageSettings
from .task import MemoryTask, Task, linear_accuracy

S = TypeVar("S", bound=ImageSettings)
# Points of the curves by number of features.
STEPS = 16
NEIGHBOURS = 10
RANKS = ("first", "middle", "last")
# Images with the largest values of a feature, over which its purity is taken.
PURE = 100
TOP_ACTIVATING = (
    "The test images that eight features answer to most, a row each: above the four most important ones, below the "
    "four least important."
)


# Rows without an encoder ----------------------------------------------------------------------------------------------


def raw_pixels(s: ImageSettings, context: Context) -> Result:
    """Pixels averaged to 8 x 8 as features."""
    task = MemoryTask(*context.data(), s.view, context.device)
    pixels = task.features(nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten()))
    features = Features(pixels, pixels, second_moment(F.normalize(pixels[0])))
    return evaluate_features(features, task.part_labels, s.top_dims)


def majority(s: ImageSettings, context: Context) -> Result:
    """The most frequent class."""
    fit, _, test = MemoryTask(*context.data(), s.view, context.device).part_labels
    answer = fit.bincount().argmax()
    accuracy = 100 * (test == answer).double().mean().item()
    metrics = {"probe_gap": 0.0}
    for name in (*(f"probe_{which}" for which in ("backbone", "all", *RANKS, "unordered")), "knn_accuracy"):
        metrics |= {name: accuracy} | beside(name, answer.expand(len(test)))
    return Result(metrics)


# The experiment -------------------------------------------------------------------------------------------------------


class Images(Experiment[S]):
    """Train one encoder on images in memory."""

    settings_class = ImageSettings

    controls = {"raw-pixels": raw_pixels, "majority": majority}
    model: TriCL

    def __init__(self, settings: S, context: Context) -> None:
        super().__init__(settings, context)
        self.task, side = self.load()
        context.seed_torch("weights")
        self.model = make_encoder(settings, side).to(context.device).to(memory_format=torch.channels_last)

    def load(self) -> tuple[Task, int]:
        """The images and their side in pixels."""
        images, split = self.context.data()
        return MemoryTask(images, split, self.settings.view, self.context.device), images.images.shape[2]

    def train(self) -> None:
        s, model = self.settings, self.model
        optimiser = make_optimiser(model, s)
        for epoch in self.context.epochs(s.epochs if s.trained else 0, model=model, optimiser=optimiser):
            means = train_epoch(model, optimiser, self.task, epoch, s)
            if model.importance is not None:
                means["importance_largest"] = model.importance().max().item()
            self.context.log(epoch, **means)

    def measure(self) -> Result:
        features = extract_features(self.model, self.task)
        if isinstance(self.task, MemoryTask):
            images = self.task.x[self.task.parts["test"]]
            self.context.picture("features", top_activating_images(images, features), TOP_ACTIVATING)
        return evaluate_features(features, self.task.part_labels, self.settings.top_dims)

    def representations(self, places: Tensor) -> Tensor:
        """The backbone's outputs."""
        assert isinstance(self.task, MemoryTask)
        return torch.cat([embed(self.model.backbone, images) for images in self.task.whole(places)])

    def fixed_batch(self) -> Callable[[], Tensor]:
        return fixed_batch_loss(self.model, self.task, self.settings)


EXPERIMENT = Images


# Evaluation -----------------------------------------------------------------------------------------------------------


def evaluate_features(features: Features, labels: list[Tensor], k: int) -> Result:
    """Probes, k-NN and retrieval, in percent, by all features and by `k` of the first, middle and last ranks."""
    backbone, projected, importance = features
    order = importance_order(importance)
    metrics = linear_accuracy("probe_backbone", labels, backbone) | linear_accuracy("probe_all", labels, projected)
    for which in RANKS:
        metrics |= linear_accuracy(f"probe_{which}", labels, [selected(z, order, which, k) for z in projected])
    metrics |= linear_accuracy("probe_unordered", labels, [z[:, :k] for z in projected])
    votes = weighted_knn(backbone[0], labels[0], backbone[2])
    metrics |= {"knn_accuracy": vote_accuracy(votes, labels[2])} | beside("knn_accuracy", voted(votes))
    metrics["probe_gap"] = metrics["probe_first"] - metrics["probe_last"]

    z, y = projected[2], labels[2]
    units, reverse = F.normalize(z), order.flip(0)
    dims = sorted({max(1, len(order) * step // STEPS) for step in range(1, STEPS + 1)})
    best_first = retrieval(units, y, order, dims, neighbours=NEIGHBOURS)
    worst_first = retrieval(units, y, reverse, dims, neighbours=NEIGHBOURS)
    first = 100 * retrieval(units, y, order, [k], neighbours=NEIGHBOURS).precision.item()
    last = 100 * retrieval(units, y, reverse, [k], neighbours=NEIGHBOURS).precision.item()
    pure = purity(z, y, order, min(PURE, len(y)))
    effective_number, top_tenth = spread(importance)
    metrics |= {
        "precision_first": first,
        "precision_last": last,
        "precision_gap": first - last,
        "precision_all": 100 * best_first.precision[-1].item(),
        "average_precision_all": 100 * best_first.average_precision[-1].item(),
        "importance_effective_number": effective_number.item(),
        "importance_top_tenth": 100 * top_tenth.item(),
        "purity_first": 100 * pure[:k].mean().item(),
        "purity_last": 100 * pure[-k:].mean().item(),
    }
    series = {
        "importance": (importance[order] / importance.max()).tolist(),
        "retrieval_best_first": (100 * best_first.precision).tolist(),
        "retrieval_worst_first": (100 * worst_first.precision).tolist(),
        "purity": [100 * part.mean().item() for part in pure.tensor_split(len(dims))],
    }
    return Result(metrics, series)


def top_activating_images(images: Tensor, features: Features) -> np.ndarray:
    """The 12 test images of largest value, a row for each of the first four and last four features.

    `images` uint8 (N, 3, H, W); the picture is uint8 (8 H, 12 W, 3).
    """
    z, order = features.projected[2], importance_order(features.importance)
    columns = z[:, torch.cat([order[:4], order[-4:]])]
    largest = columns.argsort(dim=0, descending=True, stable=True)[:12]
    return image_grid(images[largest.T])
