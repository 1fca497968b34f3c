"""Residual networks whose batch norms exist twice: a `normal` one for clean images, a `pgd` one for attacked ones.

Convolutions and linear layers are shared. Images stay in [0, 1]; the network itself standardises them, so attacks act
on pixels. `fixed` prepares a network for the attack on it: statistics at rest and folded into the convolutions.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.cards import CardError, unknown

ROUTES = ("normal", "pgd")
# ImageNet's, for all data sets (authors' code).
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NormedLayer(nn.Module):
    """A convolution or linear layer and behind it a batch norm for each route."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, routes: tuple[str, ...]) -> None:
        super().__init__()
        self.layer = layer
        norm = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
        self.norms = nn.ModuleDict({route: norm(layer.weight.shape[0]) for route in routes})
        self.folded: dict[str, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor, route: str) -> Tensor:
        """(B, in, H, W) to (B, out, H', W'), or (B, in) to (B, out); the other route's statistics are not touched."""
        if route in self.folded:
            weight, bias = self.folded[route]
            if isinstance(self.layer, nn.Linear):
                return F.linear(x, weight, bias)
            return F.conv2d(x, weight, bias, self.layer.stride, self.layer.padding)
        if route not in self.norms:
            raise ValueError(f"no batch norm for the route {route!r}; this network has {', '.join(self.norms)}")
        return self.norms[route](self.layer(x))

    @torch.no_grad()
    def fold(self, route: str) -> None:
        """Keep layer and norm, its statistics at rest, as one affine map."""
        norm = self.norms.get_submodule(route)
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = self.layer.weight * scale.view(-1, *[1] * (self.layer.weight.ndim - 1))
        shift = -norm.running_mean if self.layer.bias is None else self.layer.bias - norm.running_mean
        self.folded[route] = weight, norm.bias + shift * scale


@contextlib.contextmanager
def fixed(network: nn.Module, *routes: str) -> Iterator[None]:
    """Inside the block `network` is in eval mode, and on `routes` its layers are constants with their norms folded in.

    Same values up to rounding, but no batch norm is computed and no gradient of a weight can be. Afterwards the
    network is as before. The weights must not change inside.
    """
    layers = [module for module in network.modules() if isinstance(module, NormedLayer)]
    training = network.training
    network.eval()
    try:
        for layer in layers:
            for route in routes:
                layer.fold(route)
        yield
    finally:
        for layer in layers:
            layer.folded = {}
        network.train(training)


class Block(nn.Module):
    """Basic residual block; the shortcut has a 1x1 convolution where the shape changes."""

    def __init__(self, width_in: int, width: int, stride: int, routes: tuple[str, ...]) -> None:
        super().__init__()
        self.first = NormedLayer(nn.Conv2d(width_in, width, 3, stride, 1, bias=False), routes)
        self.second = NormedLayer(nn.Conv2d(width, width, 3, 1, 1, bias=False), routes)
        changes = stride != 1 or width_in != width
        self.shortcut = NormedLayer(nn.Conv2d(width_in, width, 1, stride, bias=False), routes) if changes else None

    def forward(self, x: Tensor, route: str) -> Tensor:
        inner = self.second(self.first(x, route).relu_(), route)
        return (inner + (x if self.shortcut is None else self.shortcut(x, route))).relu_()


class Architecture(NamedTuple):
    """Stem (kernel, stride, max-pool), its width, and (width, stride) of each block."""

    kernel: int
    stride: int
    pool: bool
    width: int
    blocks: tuple[tuple[int, int], ...]


_RESNET18 = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
ARCHITECTURES = {
    "resnet18": Architecture(3, 1, False, 64, _RESNET18),
    "resnet18-stl": Architecture(7, 2, True, 64, _RESNET18),
    # Ours. The strided stem makes 32-pixel images affordable on a CPU.
    "small": Architecture(3, 2, False, 16, ((32, 2), (64, 2))),
    "tiny": Architecture(3, 2, False, 16, ((32, 2),)),
}


class Encoder(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to representations (B, width), the average over places of the last block."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture, routes: tuple[str, ...] = ROUTES) -> None:
        super().__init__()
        kernel, stride, pool, width, blocks = architecture
        self.architecture, self.routes = architecture, routes
        self.register_buffer("mean", torch.tensor(MEAN))
        self.register_buffer("std", torch.tensor(STD))
        self.stem = NormedLayer(nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False), routes)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        widths = [width, *(block for block, _ in blocks)]
        self.blocks = nn.ModuleList(
            Block(before, *block, routes) for before, block in zip(widths, blocks, strict=False)
        )
        self.width = widths[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, route: str) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"encoder: images have shape {tuple(x.shape)}; expected (B, 3, H, W)")
        scale = self.std.view(-1, 1, 1).reciprocal()
        x = torch.addcmul(-self.mean.view(-1, 1, 1) * scale, x, scale)
        x = self.pool(self.stem(x, route).relu_())
        for block in self.blocks:
            x = block(x, route)
        return x.mean((2, 3))


def make_encoder(arch: str, routes: tuple[str, ...] = ROUTES) -> Encoder:
    """An untrained encoder; weights come from torch's global stream. Raises CardError for an unknown name."""
    if arch not in ARCHITECTURES:
        raise CardError(unknown("arch", arch, list(ARCHITECTURES)))
    # A sixth faster than torch's own order, in training and under attack, on the CPU measured.
    return Encoder(ARCHITECTURES[arch], routes).to(memory_format=torch.channels_last)


class Head(nn.Module):
    """Projection (B, d) to (B, d): linear layers with a batch norm behind each, ReLU between them."""

    def __init__(self, width: int, layers: int = 3, routes: tuple[str, ...] = ROUTES) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            NormedLayer(nn.Linear(width, width, bias=number == 0), routes) for number in range(layers)
        )

    def forward(self, x: Tensor, route: str) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x.relu() if number else x, route)
        return x


class Projector(nn.Module):
    """Encoder and projection head, what the contrastive loss sees."""

    def __init__(self, encoder: Encoder, layers: int = 3) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = Head(encoder.width, layers, encoder.routes)

    def forward(self, x: Tensor, route: str) -> Tensor:
        return self.head(self.encoder(x, route), route)


class Pair(nn.Module):
    """A trained network q and, with a momentum m, its moving average k, which sees the second views.

    Only k's parameters are averaged; its batch norms keep statistics of the second views themselves. Without a
    momentum one network sees both views.
    """

    def __init__(self, q: Projector, momentum: float | None) -> None:
        super().__init__()
        if momentum is not None and not 0 <= momentum < 1:
            raise ValueError(f"momentum of the moving average is {momentum}; expected 0 or more and below 1")
        self.q, self.momentum = q, momentum
        self.k = None if momentum is None else copy.deepcopy(q).requires_grad_(False)

    @property
    def result(self) -> Encoder:
        """The encoder that is evaluated: the moving average where there is one."""
        return (self.q if self.k is None else self.k).encoder

    def forward(self, views: Tensor, route: str) -> Tensor:
        """Views (2N, 3, H, W) to embeddings (2N, d); even rows go through q, odd rows through k."""
        if self.k is None:
            return self.q(views, route)
        first, second = views.unflatten(0, (-1, 2)).unbind(1)
        return torch.stack((self.q(first, route), self.k(second, route)), 1).flatten(0, 1)

    @torch.no_grad()
    def update(self) -> None:
        """k <- m k + (1 - m) q; the authors' code does it before q's step."""
        if self.k is None or self.momentum is None:
            return
        for slow, fast in zip(self.k.parameters(), self.q.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.momentum)


class Classifier(nn.Module):
    """An encoder with a linear layer behind it."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(encoder.width, classes)

    def forward(self, x: Tensor, route: str) -> Tensor:
        return self.linear(self.encoder(x, route))

    @torch.no_grad()
    def zero(self) -> None:
        """Start the linear layer at zero, as the authors' evaluations do."""
        self.linear.weight.zero_()
        self.linear.bias.zero_()


def single_route(encoder: Encoder, route: str) -> Encoder:
    """A copy of `encoder` that has one batch norm per layer: that of `route`."""
    single = Encoder(encoder.architecture, (route,))
    kept = {name: value for name, value in encoder.state_dict().items() if _route(name) in (None, route)}
    single.load_state_dict(kept)
    return single.to(encoder.mean).to(memory_format=torch.channels_last)


def _route(name: str) -> str | None:
    """The route that a tensor of a state belongs to; None if routes share it."""
    return name.split(".norms.")[1].split(".")[0] if ".norms." in name else None
