"""CLIP with an order of features: the left half of a picture and the right one, each with a tower of its own.

The paper says that triCL applies to CLIP; no code of it was published, so the loss and this small experiment are ours.
The only supervision is that two halves belong to one digit:

    retable run tricl/two-tower --scale demo
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.cards import CardError, unknown
from retable.evaluate.neighbours import largest
from retable.experiment import Experiment
from retable.train.context import Context, Result
from retable.train.distributed import all_gather_with_grad
from retable.train.schedules import cosine

from .importance import importance_order, second_moment, selected, spread
from .loss import Importance, TriLoss, off_identity
from .models import Projector, parameter_groups
from .settings import TwoTowerSettings
from .task import MemoryTask, linear_accuracy

NEIGHBOURS = 10


def tri_clip(image: Tensor, text: Tensor, s: Tensor, temperature: float, tau: float = 1.0) -> TriLoss:
    """CLIP's symmetric cross-entropy with logits `image_i^T S text_j / temperature`, one S for both towers.

    `image`, `text` (B, D), scaled to unit rows. The penalty is the sum of :func:`loss.tri_simclr`'s for each tower,
    scaled so that it can vanish: D times the rows' second moments against I. Our reading; no code was published.
    """
    image, text = F.normalize(image), F.normalize(text)
    logits = (image * s) @ text.T / temperature
    target = torch.arange(len(logits), device=logits.device)
    contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    dim = image.shape[1]
    penalty = sum((off_identity(dim / len(z) * z.T @ z).mean() for z in (image, text)), image.new_zeros(()))
    return TriLoss(contrast, penalty, tau)


class Towers(nn.Module):
    """Halves of images (B, 3, H, W) to two sets of features (B, D); `importance` is None for CLIP."""

    def __init__(self, pixels: int, width: int, dim: int, importance: Importance | None) -> None:
        super().__init__()
        self.left, self.right = tower(pixels // 2, width, dim), tower(pixels - pixels // 2, width, dim)
        self.importance = importance

    def forward(self, images: Tensor) -> Tensor:
        """(B, 2 D): the left half's features, then the right half's."""
        half = images.shape[3] // 2
        parts = images[..., :half], images[..., half:]
        left, right = (part.mean(1).flatten(1) for part in parts)
        return torch.cat([self.left(left), self.right(right)], dim=1)


def tower(pixels: int, width: int, dim: int) -> nn.Sequential:
    """A hidden layer with batch normalisation and the authors' projector: (B, pixels) to (B, dim)."""
    return nn.Sequential(nn.Linear(pixels, width), nn.BatchNorm1d(width), nn.ReLU(), Projector(width, width, dim))


class TwoTower(Experiment[TwoTowerSettings]):
    """Train two towers to find each other's half."""

    model: Towers

    def __init__(self, settings: TwoTowerSettings, context: Context) -> None:
        """CardError for a mode that the loss does not have."""
        super().__init__(settings, context)
        s = settings
        images, split = context.data()
        self.task = MemoryTask(images, split, s.view, context.device)
        modes = ["frozen", "learned"] if s.loss == "tri-clip" else ["none"]
        if s.mode not in modes:
            raise CardError(f"the loss {s.loss!r}: {unknown('mode', s.mode, modes)}")
        context.seed_torch("weights")
        importance = Importance(s.dim, learned=s.mode == "learned") if s.loss == "tri-clip" else None
        self.model = Towers(images.images[0, 0].size, s.width, s.dim, importance).to(context.device)

    def batch_loss(self, images: Tensor) -> Tensor:
        """The loss of images (B, 3, H, W): CLIP's is the tri form with S = 1 and without the penalty."""
        s, importance = self.settings, self.model.importance
        left, right = (all_gather_with_grad(features) for features in self.model(images).chunk(2, dim=1))
        if importance is None:
            return tri_clip(left, right, torch.ones_like(left[0]), s.temperature, tau=0.0).total
        return tri_clip(left, right, importance(), s.temperature, s.tau).total

    def train(self) -> None:
        s, model = self.settings, self.model.train()
        steps = self.task.steps(s.batch_size)
        weights = [*model.left.parameters(), *model.right.parameters()]
        optimiser = torch.optim.Adam(parameter_groups(weights, model.importance, s.lr, s.importance_lr), lr=0.0)
        epochs = s.epochs if s.trained else 0
        for epoch in self.context.epochs(epochs, model=model, optimiser=optimiser):
            total = 0.0
            batches = self.task.batches(s.batch_size, epoch, views=1)
            for step, (images, _) in enumerate(batches, (epoch - 1) * steps):
                for group in optimiser.param_groups:
                    group["lr"] = cosine(step, group["peak_lr"], 0, epochs * steps)
                loss = self.batch_loss(images)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()
            self.context.log(epoch, loss=total / steps)

    @torch.no_grad()
    def measure(self) -> Result:
        """Retrieval from left to right halves by all, the first and the last features, and probes of the left tower.

        Scores are inner products of unit rows, weighted by S where there is one, as in training. `recall`: the image's
        own right half is among the ten best; `precision`: share of its class among those, its own left out.
        """
        k, labels = self.settings.top_dims, self.task.part_labels
        both = self.task.features(self.model)
        left, right = ([rows.chunk(2, dim=1)[side] for rows in both] for side in range(2))
        s = None if self.model.importance is None else self.model.importance()
        importance = second_moment(F.normalize(left[0])) if s is None else s
        order = importance_order(importance)
        queries, keys = F.normalize(left[2]), F.normalize(right[2])
        queries = queries if s is None else queries * s
        metrics = {}
        for name, which, number in (("all", "first", len(order)), ("first", "first", k), ("last", "last", k)):
            scores = selected(queries, order, which, number) @ selected(keys, order, which, number).T
            own = torch.arange(len(scores), device=scores.device)
            found = largest(scores, NEIGHBOURS)[1] == own[:, None]
            metrics[f"recall_{name}"] = 100 * found.any(1).double().mean().item()
            scores[own, own] = -torch.inf
            same_class = labels[2][largest(scores, NEIGHBOURS)[1]] == labels[2][:, None]
            metrics[f"precision_{name}"] = 100 * same_class.double().mean().item()
            metrics |= linear_accuracy(f"probe_{name}", labels, [selected(z, order, which, number) for z in left])
        metrics["precision_gap"] = metrics["precision_first"] - metrics["precision_last"]
        metrics["importance_effective_number"] = spread(importance).effective_number.item()
        return Result(metrics, {"importance": importance[order].tolist()})

    def fixed_batch(self) -> Callable[[], Tensor]:
        images, _ = next(self.task.batches(self.settings.batch_size, 1, views=1))
        return lambda: self.batch_loss(images)


EXPERIMENT = TwoTower
