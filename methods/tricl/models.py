"""triCL's networks: a backbone, a projector, and an importance for each of the projector's outputs."""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, resnet18

from .loss import Importance
from .settings import BackboneName

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


def make_backbone(name: BackboneName, width: int, size: int) -> tuple[nn.Module, int]:
    """An untrained backbone for images of `size` pixels, and its number of features F: (B, 3, H, W) to (B, F).

    `resnet18`: torchvision's; below 64 pixels its stem is a 3 x 3 convolution of stride 1 and padding 2 without
    pooling, as in the authors' code (`width` has no meaning). `small-resnet`: see there. `mlp`: a hidden layer of
    `width` and `width // 2` features on the mean of the channels.
    """
    if name == "resnet18":
        network = resnet18(weights=None)
        network.fc = nn.Identity()
        if size < 64:
            network.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=2, bias=False)
            network.maxpool = nn.Identity()
        return network, 512
    if name == "small-resnet":
        return small_resnet(width), 4 * width
    layers: list[nn.Module] = [Grey()]
    for before, after in ((size * size, width), (width, width // 2)):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers), width // 2


def small_resnet(width: int) -> nn.Sequential:
    """Three basic blocks of `width`, 2 and 4 `width` channels behind a 3 x 3 convolution of stride 2."""
    layers = [nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers.append(BasicBlock(width, width))
    for channels in (width, 2 * width):
        shortcut = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1, stride=2, bias=False), nn.BatchNorm2d(2 * channels)
        )
        layers.append(BasicBlock(channels, 2 * channels, stride=2, downsample=shortcut))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Grey(nn.Module):
    """The mean of the channels as a row of pixels: (B, 3, H, W) to (B, H * W)."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, H * W)."""
        return images.mean(1).flatten(1)


@torch.no_grad()
def embed(network: nn.Module, rows: Tensor) -> Tensor:
    """Outputs (N, d) of a network in evaluation mode for rows (N, ...), `BATCH` at a time; its mode is restored."""
    was_training = network.training
    network.eval()
    parts = [network(part) for part in rows.split(BATCH)]
    network.train(was_training)
    return torch.cat(parts)
