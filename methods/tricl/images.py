"""triCL on images: an encoder trained without labels, then what its first and last features are worth.

On digits eight features of tri-SCL nearly do the work of all, and the last eight do not:

    retable run tricl/importance --scale demo
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.tricl.importance import importance_order, purity, second_moment, selected, spread
from methods.tricl.losses import (
    MODES,
    Importance,
    scl,
    scl_original,
    simclr,
    tri_scl,
    tri_scl_paper,
    tri_simclr,
    tri_simclr_paper,
)
from methods.tricl.models import Projector, TriCL, embed, make_backbone
from methods.tricl.task import Task, linear_accuracy
from methods.tricl.views import make_view
from retable.cards import CardError, Scalar, unknown
from retable.data import augment
from retable.evaluate.neighbours import retrieval, vote_accuracy, weighted_knn
from retable.plan import Cell
from retable.train.context import Context, Result
from retable.train.distributed import all_gather_with_grad
from retable.train.optim import LARS
from retable.train.schedules import warmup_cosine_step

LOSSES = ("simclr", "scl", "scl-original", "tri-simclr", "tri-scl")
CONTROLS = ("majority", "raw-pixels")
# Points of the curves by number of features.
STEPS = 16
NEIGHBOURS = 10
# Samples that a feature's purity is taken over.
PURE = 100
FAVOURITES = (
    "The test images that eight features answer to most, a row each: above the four most important ones, below the "
    "four least important."
)


# Learners -------------------------------------------------------------------------------------------------------------


def make_learner(settings: dict[str, Scalar], size: int) -> TriCL:
    """The untrained network of a cell for images of ``size`` pixels; weights come from torch's global stream.

    Raises CardError for an unknown loss, mode or backbone.
    """
    s, loss, mode = settings, str(settings["loss"]), str(settings["mode"])
    if loss not in LOSSES:
        raise CardError(unknown("loss", loss, [*LOSSES, *CONTROLS]))
    tri = loss.startswith("tri-")
    if mode not in (MODES if tri else ("none",)):
        raise CardError(f"the loss {loss!r}: {unknown('mode', mode, list(MODES) if tri else ['none'])}")
    backbone, features = make_backbone(str(s["backbone"]), int(s["width"]), size)
    projector = Projector(features, int(s["hidden"]), int(s["dim"]))
    return TriCL(backbone, projector, Importance(int(s["dim"]), learned=mode != "released") if tri else None)


def batch_loss(learner: TriCL, first: Tensor, second: Tensor, settings: dict[str, Scalar]) -> dict[str, Tensor]:
    """The loss of two views (B, 3, H, W) of the same images, each in a pass of its own, and its parts by name."""
    s, loss, mode = settings, str(settings["loss"]), str(settings["mode"])
    with torch.autocast(first.device.type, torch.bfloat16, enabled=s["precision"] == "bfloat16"):
        views = learner(first), learner(second)
    z = torch.cat([all_gather_with_grad(view.float()) for view in views])
    temperature, tau = float(s["temperature"]), float(s["tau"])
    if loss == "simclr":
        return {"loss": simclr(z, temperature)}
    if loss == "scl":
        return {"loss": scl(z, temperature)}
    if loss == "scl-original":
        first_view, second_view = z.chunk(2)
        pull, push = scl_original(first_view, second_view, float(s["mu"]))
        return {"loss": pull + push}
    assert learner.importance is not None
    importance = learner.importance()
    if loss == "tri-simclr":
        form = tri_simclr_paper if mode == "paper" else tri_simclr
        parts = form(z, importance, temperature, tau)
    else:
        parts = (tri_scl_paper if mode == "paper" else tri_scl)(z, importance, tau)
    return {"loss": parts.total, "decorrelation": parts.decorrelation}


class Training:
    """A learner with its optimiser, its rates by step, and its batches."""

    def __init__(self, task: Task, learner: TriCL, settings: dict[str, Scalar]) -> None:
        s = self.settings = settings
        self.task, self.learner, self.view = task, learner, make_view(str(s["view"]))
        self.batch = int(s["batch_size"])
        self.steps = len(task.train) // self.batch
        if not self.steps:
            raise CardError(f"batch_size {self.batch}: the split has {len(task.train)} training images; take fewer")
        weights = [p for part in (learner.backbone, learner.projector) for p in part.parameters()]
        groups = [{"params": weights, "weight_decay": float(s["weight_decay"])}]
        self.rates = [float(s["lr"])]
        if learner.importance is not None and learner.importance.raw.requires_grad:
            groups.append({"params": [learner.importance.raw], "weight_decay": 0.0})
            self.rates.append(float(s["importance_lr"]))
        self.optimiser: torch.optim.Optimizer
        if s["optimiser"] == "lars":
            self.optimiser = LARS(groups, lr=0.0, form="solo-learn", momentum=0.9, trust=0.02, clip=True)
        elif s["optimiser"] == "adam":
            self.optimiser = torch.optim.Adam(groups, lr=0.0)
        else:
            raise CardError(unknown("optimiser", str(s["optimiser"]), ["lars", "adam"]))

    def epoch(self, number: int) -> dict[str, float]:
        """One pass over the training images in a random order, full batches only; means of the loss and its parts."""
        s, learner = self.settings, self.learner.train()
        warmup, total = (round(float(s[key]) * self.steps) for key in ("warmup_epochs", "epochs"))
        order = torch.randperm(len(self.task.train)).to(self.task.device)
        sums: dict[str, Tensor] = {}
        for index, places in enumerate(order.split(self.batch)[: self.steps]):
            step = (number - 1) * self.steps + index
            for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = warmup_cosine_step(step, rate, warmup, total, start=float(s["warmup_start"]))
            x = augment.to_float(self.task.train[places])
            first, second = (self.task.normalised(self.view(x)) for _ in range(2))
            parts = batch_loss(learner, first, second, s)
            self.optimiser.zero_grad()
            parts["loss"].backward()
            self.optimiser.step()
            sums = {name: sums.get(name, 0) + value.detach() for name, value in parts.items()}
        return {name: float(value) / self.steps for name, value in sums.items()}


# Training -------------------------------------------------------------------------------------------------------------


def build(cell: Cell, context: Context) -> tuple[Task, TriCL]:
    """Data and untrained network of a cell; the weights depend on the seed only."""
    images, split = context.data()
    task = Task(images, split, context.device)
    context.seed_torch("weights")
    learner = make_learner(cell.settings, images.images.shape[2]).to(context.device)
    return task, learner.to(memory_format=torch.channels_last)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network and its loss on the first images, with the same views each time."""
    task, learner = build(cell, context)
    view = make_view(str(cell.settings["view"]))
    x = augment.to_float(task.train[: int(cell.settings["batch_size"])])

    def loss() -> Tensor:
        context.seed_torch("fixed batch")
        first, second = (task.normalised(view(x)) for _ in range(2))
        return batch_loss(learner, first, second, cell.settings)["loss"]

    return learner, loss


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and measure it. Accuracies and precisions are in percent."""
    if cell.settings["loss"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    training = Training(task, learner, cell.settings)
    epochs = int(cell.settings["epochs"]) if cell.settings["trained"] else 0
    for epoch in context.epochs(epochs, learner=learner, optimiser=training.optimiser):
        means = training.epoch(epoch)
        if learner.importance is not None:
            means["importance_largest"] = float(learner.importance().detach().max())
        context.log(epoch, **means)
    context.save_weights("last", learner.state_dict())
    context.picture("features", favourites(task, learner), FAVOURITES)
    return measure(task, learner, cell.settings)


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["loss"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    learner.load_state_dict(context.load_weights("last"))
    return measure(task, learner, cell.settings)


# Evaluation -----------------------------------------------------------------------------------------------------------


def measure(task: Task, learner: TriCL, settings: dict[str, Scalar]) -> Result:
    """Probes, k-NN and retrieval on features in their order of importance."""
    backbone = task.rows(learner.backbone)
    features = [embed(learner.projector, rows) for rows in backbone]
    return by_rank(task, backbone, features, importance_of(learner, features[0]), int(settings["top_dims"]))


@torch.no_grad()
def importance_of(learner: TriCL, features: Tensor) -> Tensor:
    """S (D,), or where a method learns none the second moments of the unit rows of ``features`` (N, D)."""
    return second_moment(F.normalize(features)) if learner.importance is None else learner.importance()


def by_rank(task: Task, backbone: list[Tensor], features: list[Tensor], importance: Tensor, k: int) -> Result:
    """All metrics of features (N, D) of the images that fit, choose and test, most important first by (D,)."""
    order = importance_order(importance)
    (_, fit_labels), _, (_, labels) = task.parts
    metrics = {"probe_backbone": linear_accuracy(task, backbone), "probe_all": linear_accuracy(task, features)}
    for name in ("first", "middle", "last"):
        columns = [selected(rows, order, name, k) for rows in features]
        metrics[f"probe_{name}"] = linear_accuracy(task, columns)
    metrics["probe_gap"] = metrics["probe_first"] - metrics["probe_last"]
    metrics["probe_unordered"] = linear_accuracy(task, [rows[:, :k] for rows in features])
    metrics["knn_accuracy"] = vote_accuracy(weighted_knn(backbone[0], fit_labels, backbone[2]), labels)

    units = F.normalize(features[2])
    for name, ranks in (("first", order), ("last", order.flip(0))):
        metrics[f"precision_{name}"] = (
            100 * retrieval(units, labels, ranks, [k], neighbours=NEIGHBOURS).precision.item()
        )
    metrics["precision_gap"] = metrics["precision_first"] - metrics["precision_last"]
    dims = sorted({max(1, len(order) * step // STEPS) for step in range(1, STEPS + 1)})
    best_first = retrieval(units, labels, order, dims, neighbours=NEIGHBOURS)
    worst_first = retrieval(units, labels, order.flip(0), dims, neighbours=NEIGHBOURS)
    metrics["precision_all"] = 100 * best_first.precision[-1].item()
    metrics["average_precision_all"] = 100 * best_first.average_precision[-1].item()
    number, share = spread(importance)
    metrics |= {"importance_effective_number": number.item(), "importance_top_tenth": 100 * share.item()}
    pure = purity(features[2], labels, order, min(PURE, len(labels)))
    metrics["purity_first"], metrics["purity_last"] = (100 * part.mean().item() for part in (pure[:k], pure[-k:]))
    series = {
        "importance": (importance[order] / importance.max()).tolist(),
        "retrieval_best_first": (100 * best_first.precision).tolist(),
        "retrieval_worst_first": (100 * worst_first.precision).tolist(),
        "purity": [100 * part.mean().item() for part in pure.tensor_split(len(dims))],
    }
    return Result(metrics, series)


def favourites(task: Task, learner: TriCL) -> np.ndarray:
    """Test images of largest value, a row for each of the four first and the four last features: uint8 (H, W, 3)."""
    images, _ = task.parts[2]
    backbone = task.rows(learner.backbone)
    features = embed(learner.projector, backbone[2])
    order = importance_order(importance_of(learner, embed(learner.projector, backbone[0])))
    rows = []
    for column in (*order[:4].tolist(), *order[-4:].tolist()):
        best = features[:, column].argsort(descending=True, stable=True)[:12]
        rows.append(torch.cat(list(images[best]), dim=2))
    return torch.cat(rows, dim=1).permute(1, 2, 0).cpu().numpy()


def control(cell: Cell, context: Context) -> Result:
    """Rows without an encoder: the most frequent class, and pixels averaged to 8 x 8 as features."""
    images, split = context.data()
    task = Task(images, split, context.device)
    if cell.settings["loss"] == "raw-pixels":
        rows = task.rows(nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten()))
        return by_rank(task, rows, rows, second_moment(F.normalize(rows[0])), int(cell.settings["top_dims"]))
    (_, fit), _, (_, test) = task.parts
    accuracy = 100 * (test == fit.bincount().argmax()).double().mean().item()
    names = ("backbone", "all", "first", "middle", "last", "unordered")
    return Result({f"probe_{name}": accuracy for name in names} | {"probe_gap": 0.0, "knn_accuracy": accuracy})
