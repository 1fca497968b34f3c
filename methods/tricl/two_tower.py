"""CLIP with an order of features: the left half of a picture and the right one, each with a tower of its own.

The paper says that triCL applies to CLIP; no code of it was published, so the loss and this small experiment are ours.
Nothing but the two halves of a digit is said to belong together:

    retable run tricl/two-tower --scale demo
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.tricl.importance import importance_order, second_moment, selected, spread
from methods.tricl.losses import Importance, tri_clip
from methods.tricl.models import Projector
from methods.tricl.task import Task, linear_accuracy
from methods.tricl.views import make_view
from retable.cards import CardError, Scalar, unknown
from retable.data import augment
from retable.evaluate.neighbours import largest
from retable.plan import Cell
from retable.train.context import Context, Result
from retable.train.distributed import all_gather_with_grad
from retable.train.schedules import cosine

LOSSES = ("clip", "tri-clip")
NEIGHBOURS = 10


class Towers(nn.Module):
    """Halves of images (B, 3, H, W) to two sets of features (B, D); ``importance`` is None for CLIP."""

    def __init__(self, pixels: int, width: int, dim: int, importance: Importance | None) -> None:
        super().__init__()
        self.left, self.right = tower(pixels // 2, width, dim), tower(pixels - pixels // 2, width, dim)
        self.importance = importance

    def forward(self, images: Tensor) -> Tensor:
        """(B, 2 * D): the left half's features, then the right half's."""
        half = images.shape[3] // 2
        parts = images[..., :half], images[..., half:]
        left, right = (part.mean(1).flatten(1) for part in parts)
        return torch.cat([self.left(left), self.right(right)], dim=1)


def tower(pixels: int, width: int, dim: int) -> nn.Sequential:
    """A hidden layer with batch normalisation and the authors' projector: (B, pixels) to (B, dim)."""
    return nn.Sequential(nn.Linear(pixels, width), nn.BatchNorm1d(width), nn.ReLU(), Projector(width, width, dim))


def make_towers(settings: dict[str, Scalar], pixels: int) -> Towers:
    """The untrained towers of a cell for square images of so many pixels. CardError for an unknown loss or mode."""
    loss, mode = str(settings["loss"]), str(settings["mode"])
    if loss not in LOSSES:
        raise CardError(unknown("loss", loss, list(LOSSES)))
    modes = ("frozen", "learned") if loss == "tri-clip" else ("none",)
    if mode not in modes:
        raise CardError(f"the loss {loss!r}: {unknown('mode', mode, list(modes))}")
    dim = int(settings["dim"])
    importance = Importance(dim, learned=mode == "learned") if loss == "tri-clip" else None
    return Towers(pixels, int(settings["width"]), dim, importance)


def batch_loss(towers: Towers, images: Tensor, settings: dict[str, Scalar]) -> Tensor:
    """The loss of a batch of images (B, 3, H, W): CLIP's is the tri form with S = 1 and without the penalty."""
    left, right = (all_gather_with_grad(features) for features in towers(images).chunk(2, dim=1))
    temperature = float(settings["temperature"])
    if towers.importance is None:
        return tri_clip(left, right, torch.ones_like(left[0]), temperature, tau=0.0).total
    return tri_clip(left, right, towers.importance(), temperature, float(settings["tau"])).total


def build(cell: Cell, context: Context) -> tuple[Task, Towers]:
    """Data and untrained towers of a cell; the weights depend on the seed only."""
    images, split = context.data()
    task = Task(images, split, context.device)
    context.seed_torch("weights")
    return task, make_towers(cell.settings, images.images[0, 0].size).to(context.device)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The towers and their loss on the first images, with the same views each time."""
    task, towers = build(cell, context)
    view = make_view(str(cell.settings["view"]))
    x = augment.to_float(task.train[: int(cell.settings["batch_size"])])

    def loss() -> Tensor:
        context.seed_torch("fixed batch")
        return batch_loss(towers, task.normalised(view(x)), cell.settings)

    return towers, loss


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and measure it. Accuracies and precisions are in percent."""
    s = cell.settings
    task, towers = build(cell, context)
    view, batch, rates = make_view(str(s["view"])), int(s["batch_size"]), [float(s["lr"])]
    steps = len(task.train) // batch
    if not steps:
        raise CardError(f"batch_size {batch}: the split has {len(task.train)} training images; take fewer")
    groups = [{"params": [*towers.left.parameters(), *towers.right.parameters()]}]
    if s["mode"] == "learned" and towers.importance is not None:
        groups.append({"params": [towers.importance.raw]})
        rates.append(float(s["importance_lr"]))
    optimiser = torch.optim.Adam(groups, lr=0.0)
    epochs = int(s["epochs"]) if s["trained"] else 0
    for epoch in context.epochs(epochs, towers=towers, optimiser=optimiser):
        towers.train()
        order, total = torch.randperm(len(task.train)).to(context.device), 0.0
        for index, places in enumerate(order.split(batch)[:steps]):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = cosine((epoch - 1) * steps + index, rate, 0, epochs * steps)
            loss = batch_loss(towers, task.normalised(view(augment.to_float(task.train[places]))), s)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        context.log(epoch, loss=total / steps)
    context.save_weights("last", towers.state_dict())
    return measure(task, towers, s)


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    task, towers = build(cell, context)
    towers.load_state_dict(context.load_weights("last"))
    return measure(task, towers, cell.settings)


@torch.no_grad()
def measure(task: Task, towers: Towers, settings: dict[str, Scalar]) -> Result:
    """Retrieval from left to right halves by all, the first and the last features, and probes of the left tower.

    Scores are inner products of unit rows, weighted by S where there is one, as in training. ``recall``: the image's
    own right half is among the ten best; ``precision``: share of its class among those, its own left out.
    """
    k = int(settings["top_dims"])
    (_, _), (_, _), (_, labels) = task.parts
    both = task.rows(towers)
    left, right = ([rows.chunk(2, dim=1)[side] for rows in both] for side in range(2))
    importance = second_moment(F.normalize(left[0])) if towers.importance is None else towers.importance()
    weight = torch.ones_like(importance) if towers.importance is None else importance
    order = importance_order(importance)
    queries, keys = F.normalize(left[2]) * weight, F.normalize(right[2])
    metrics = {}
    for name, which, number in (("all", "first", len(order)), ("first", "first", k), ("last", "last", k)):
        scores = selected(queries, order, which, number) @ selected(keys, order, which, number).T
        own = torch.arange(len(scores), device=scores.device)
        metrics[f"recall_{name}"] = 100 * (largest(scores, NEIGHBOURS)[1] == own[:, None]).any(1).double().mean().item()
        scores[own, own] = -torch.inf
        found = labels[largest(scores, NEIGHBOURS)[1]] == labels[:, None]
        metrics[f"precision_{name}"] = 100 * found.double().mean().item()
        metrics[f"probe_{name}"] = linear_accuracy(task, [selected(rows, order, which, number) for rows in left])
    metrics["precision_gap"] = metrics["precision_first"] - metrics["precision_last"]
    metrics["importance_effective_number"] = spread(importance).effective_number.item()
    return Result(metrics, {"importance": importance[order].tolist()})
