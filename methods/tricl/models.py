"""triCL's networks: a backbone, a projector, and an importance for each of the projector's outputs."""

import torch
from torch import Tensor, nn

from .loss import Importance

BATCH = 1000


class Projector(nn.Sequential):
    """Linear, ReLU, Linear with biases (the authors' form, without batch normalisation): (B, F) to (B, D)."""

    def __init__(self, features: int, hidden: int, dim: int) -> None:
        super().__init__(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, dim))


class TriCL(nn.Module):
    """Images (B, 3, H, W) to projections (B, D), with `importance` (None for the two-factor losses)."""

    def __init__(self, backbone: nn.Module, projector: Projector, importance: Importance | None) -> None:
        super().__init__()
        self.backbone, self.projector, self.importance = backbone, projector, importance

    def forward(self, images: Tensor) -> Tensor:
        """Projections (B, D), not normalised."""
        return self.projector(self.backbone(images))


def parameter_groups(
    weights: list[nn.Parameter], importance: Importance | None, lr: float, importance_lr: float, decay: float = 0.0
) -> list[dict[str, object]]:
    """An optimiser's groups with the learning rate that schedules peak at; a learned S has no weight decay."""
    groups: list[dict[str, object]] = [{"params": weights, "peak_lr": lr, "weight_decay": decay}]
    if importance is not None and importance.raw.requires_grad:
        groups.append({"params": [importance.raw], "peak_lr": importance_lr, "weight_decay": 0.0})
    return groups


@torch.no_grad()
def embed(network: nn.Module, rows: Tensor) -> Tensor:
    """Outputs (N, d) of a network in evaluation mode for rows (N, ...), `BATCH` at a time; its mode is restored."""
    was_training = network.training
    network.eval()
    parts = [network(part) for part in rows.split(BATCH)]
    network.train(was_training)
    return torch.cat(parts)
