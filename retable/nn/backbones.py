"""Untrained encoders of images (B, 3, H, W), by name; weights are drawn from torch's global stream."""

from typing import Literal

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, resnet18


def make_backbone(name: Literal["resnet18", "small-resnet", "mlp"], width: int, size: int) -> tuple[nn.Module, int]:
    """An untrained backbone for images of `size` pixels, and its number of features F: (B, 3, H, W) to (B, F).

    `resnet18`: torchvision's; below 64 pixels its stem is a 3 x 3 convolution of stride 1 and padding 2 without
    pooling (`width` has no meaning). `small-resnet`: see there. `mlp`: a hidden layer of
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
