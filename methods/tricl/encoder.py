"""The encoder of the image experiments: how it is built, trained for an epoch, and its features extracted."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.cards import CardError, unknown
from retable.nn.backbones import make_backbone
from retable.train.distributed import all_gather_with_grad
from retable.train.optim import LARS
from retable.train.schedules import warmup_cosine_step

from .baselines import scl, scl_original, simclr
from .importance import second_moment
from .loss import Importance, TriLoss, tri_scl, tri_scl_paper, tri_simclr, tri_simclr_paper
from .models import Projector, TriCL, embed, parameter_groups
from .settings import ImageSettings
from .task import Task


def make_encoder(s: ImageSettings, size: int) -> TriCL:
    """The untrained network for images of `size` pixels; weights come from torch's global stream.

    CardError for a mode that the loss does not have.
    """
    tri = s.loss.startswith("tri-")
    modes = ["released", "released_learned", "paper"] if tri else ["none"]
    if s.mode not in modes:
        raise CardError(f"the loss {s.loss!r}: {unknown('mode', s.mode, modes)}")
    backbone, features = make_backbone(s.backbone, s.width, size)
    projector = Projector(features, s.hidden, s.dim)
    return TriCL(backbone, projector, Importance(s.dim, learned=s.mode != "released") if tri else None)


def make_optimiser(model: TriCL, s: ImageSettings) -> torch.optim.Optimizer:
    """LARS as in solo-learn, or Adam; a learned S has a learning rate of its own."""
    weights = [*model.backbone.parameters(), *model.projector.parameters()]
    groups = parameter_groups(weights, model.importance, s.lr, s.importance_lr, s.weight_decay)
    if s.optimiser == "adam":
        return torch.optim.Adam(groups, lr=0.0)
    return LARS(groups, lr=0.0, form="solo-learn", momentum=0.9, trust=0.02, clip=True)


def batch_loss(model: TriCL, first: Tensor, second: Tensor, s: ImageSettings) -> dict[str, Tensor]:
    """`loss` of two views (B, 3, H, W) of the same images, each in a pass of its own, and `decorrelation`."""
    with torch.autocast(first.device.type, torch.bfloat16, enabled=s.precision == "bfloat16"):
        views = model(first), model(second)
    z = torch.cat([all_gather_with_grad(view.float()) for view in views])
    if model.importance is None:
        return {"loss": _two_factor_loss(z, s)}
    parts = _three_factor_loss(z, model.importance(), s)
    return {"loss": parts.total, "decorrelation": parts.decorrelation}


def _two_factor_loss(z: Tensor, s: ImageSettings) -> Tensor:
    if s.loss == "scl-original":
        z1, z2 = z.chunk(2)
        positive, negative = scl_original(z1, z2, s.mu)
        return positive + negative
    return (simclr if s.loss == "simclr" else scl)(z, s.temperature)


def _three_factor_loss(z: Tensor, importance: Tensor, s: ImageSettings) -> TriLoss:
    if s.loss == "tri-simclr":
        return (tri_simclr_paper if s.mode == "paper" else tri_simclr)(z, importance, s.temperature, s.tau)
    return (tri_scl_paper if s.mode == "paper" else tri_scl)(z, importance, s.tau)


def train_epoch(
    model: TriCL, optimiser: torch.optim.Optimizer, task: Task, epoch: int, s: ImageSettings
) -> dict[str, float]:
    """One pass over the training images; means of the loss and its parts. Epochs count from 1."""
    model.train()
    steps = task.steps(s.batch_size)
    warmup, total = round(s.warmup_epochs * steps), s.epochs * steps
    sums: dict[str, Tensor] = {}
    for step, (first, second, _) in enumerate(task.batches(s.batch_size, epoch), (epoch - 1) * steps):
        for group in optimiser.param_groups:
            group["lr"] = warmup_cosine_step(step, group["peak_lr"], warmup, total, start=s.warmup_start)
        losses = batch_loss(model, first, second, s)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        sums = {name: sums.get(name, 0) + value.detach() for name, value in losses.items()}
    return {name: value.item() / steps for name, value in sums.items()}


def fixed_batch_loss(model: TriCL, task: Task, s: ImageSettings) -> Callable[[], Tensor]:
    """The loss on one batch."""
    first, second, _ = next(task.batches(s.batch_size, 1))
    return lambda: batch_loss(model, first, second, s)["loss"]


class Features(NamedTuple):
    """Outputs (N, d) for the images that fit, choose and test, and the importance (D,) of the projector's."""

    backbone: list[Tensor]
    projected: list[Tensor]
    importance: Tensor


@torch.no_grad()
def extract_features(model: TriCL, task: Task) -> Features:
    """Importance is S, or where a loss has none the second moment of the features scaled to unit rows."""
    backbone = task.features(model.backbone)
    projected = [embed(model.projector, rows) for rows in backbone]
    importance = second_moment(F.normalize(projected[0])) if model.importance is None else model.importance()
    return Features(backbone, projected, importance)
