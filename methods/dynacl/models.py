"""Residual networks with dual batch norm: a `clean` branch for clean images, an `adv` branch for attacked ones.

Convolutions and linear layers are shared. Images stay in [0, 1]; the network itself standardises them, so attacks act
on pixels. `folded_batchnorm` prepares a network for the attack on it: batch norms are folded into the convolutions.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .settings import Arch

Branch = Literal["clean", "adv"]
BN_BRANCHES: tuple[Branch, ...] = ("clean", "adv")
# ImageNet's, for all data sets (authors' code).
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NormedLayer(nn.Module):
    """A convolution or linear layer and a batch norm for each branch after it."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, bn_branches: tuple[Branch, ...]) -> None:
        super().__init__()
        self.layer = layer
        norm = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
        self.norms = nn.ModuleDict({bn_branch: norm(layer.weight.shape[0]) for bn_branch in bn_branches})
        self.folded: dict[Branch, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor, bn_branch: Branch) -> Tensor:
        """(B, in, H, W) to (B, out, H', W'), or (B, in) to (B, out); the other branch's statistics stay."""
        if bn_branch in self.folded:
            weight, bias = self.folded[bn_branch]
            if isinstance(self.layer, nn.Linear):
                return F.linear(x, weight, bias)
            return F.conv2d(x, weight, bias, self.layer.stride, self.layer.padding)
        if bn_branch not in self.norms:
            raise ValueError(f"no batch norm for the branch {bn_branch!r}; this network has {', '.join(self.norms)}")
        return self.norms[bn_branch](self.layer(x))

    @torch.no_grad()
    def fold(self, bn_branch: Branch) -> None:
        """Keep layer and norm, with its running statistics, as one affine map."""
        norm = self.norms.get_submodule(bn_branch)
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = self.layer.weight * scale.view(-1, *[1] * (self.layer.weight.ndim - 1))
        shift = -norm.running_mean if self.layer.bias is None else self.layer.bias - norm.running_mean
        self.folded[bn_branch] = weight, norm.bias + shift * scale


@contextlib.contextmanager
def folded_batchnorm(network: nn.Module, *bn_branches: Branch) -> Iterator[None]:
    """Inside the block `network` is in eval mode and its layers are constants, the norms of `bn_branches` folded in.

    Same values up to rounding, but no batch norm and no gradient of a weight is computed. Afterwards the network is as
    before. The weights must not change inside.
    """
    layers = [module for module in network.modules() if isinstance(module, NormedLayer)]
    training = network.training
    network.eval()
    try:
        for layer in layers:
            for bn_branch in bn_branches:
                layer.fold(bn_branch)
        yield
    finally:
        for layer in layers:
            layer.folded = {}
        network.train(training)


class Block(nn.Module):
    """Basic residual block; the shortcut has a 1x1 convolution where the shape changes."""

    def __init__(self, width_in: int, width: int, stride: int, bn_branches: tuple[Branch, ...]) -> None:
        super().__init__()
        self.first = NormedLayer(nn.Conv2d(width_in, width, 3, stride, 1, bias=False), bn_branches)
        self.second = NormedLayer(nn.Conv2d(width, width, 3, 1, 1, bias=False), bn_branches)
        changes = stride != 1 or width_in != width
        self.shortcut = NormedLayer(nn.Conv2d(width_in, width, 1, stride, bias=False), bn_branches) if changes else None

    def forward(self, x: Tensor, bn_branch: Branch) -> Tensor:
        inner = self.second(self.first(x, bn_branch).relu_(), bn_branch)
        return (inner + (x if self.shortcut is None else self.shortcut(x, bn_branch))).relu_()


class Architecture(NamedTuple):
    """Stem (kernel, stride, max-pool), its width, and (width, stride) of each block."""

    kernel: int
    stride: int
    pool: bool
    width: int
    blocks: tuple[tuple[int, int], ...]


_RESNET18 = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
ARCHITECTURES: dict[Arch, Architecture] = {
    "resnet18": Architecture(3, 1, False, 64, _RESNET18),
    "resnet18-stl": Architecture(7, 2, True, 64, _RESNET18),
    # Ours. The strided stem makes 32-pixel images affordable on a CPU.
    "small": Architecture(3, 2, False, 16, ((32, 2), (64, 2))),
    "tiny": Architecture(3, 2, False, 16, ((32, 2),)),
}


class Encoder(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to representations (B, width), the last block averaged over positions."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture, bn_branches: tuple[Branch, ...] = BN_BRANCHES) -> None:
        super().__init__()
        kernel, stride, pool, width, blocks = architecture
        self.bn_branches = bn_branches
        self.register_buffer("mean", torch.tensor(MEAN))
        self.register_buffer("std", torch.tensor(STD))
        self.stem = NormedLayer(nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False), bn_branches)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        widths = [width, *(block for block, _ in blocks)]
        self.blocks = nn.ModuleList(
            Block(before, *block, bn_branches) for before, block in zip(widths, blocks, strict=False)
        )
        self.width = widths[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, bn_branch: Branch) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"encoder: images have shape {tuple(x.shape)}; expected (B, 3, H, W)")
        scale = self.std.view(-1, 1, 1).reciprocal()
        x = torch.addcmul(-self.mean.view(-1, 1, 1) * scale, x, scale)
        x = self.pool(self.stem(x, bn_branch).relu_())
        for block in self.blocks:
            x = block(x, bn_branch)
        return x.mean((2, 3))


def make_encoder(arch: Arch, *bn_branches: Branch) -> Encoder:
    """An untrained encoder with some branches, by default all; weights come from torch's global stream."""
    # A sixth faster than torch's own order, in training and under attack, on the CPU measured.
    return Encoder(ARCHITECTURES[arch], bn_branches or BN_BRANCHES).to(memory_format=torch.channels_last)


class Head(nn.Module):
    """Projection (B, d) to (B, d): linear layers with a batch norm after each, ReLU between them."""

    def __init__(self, width: int, layers: int = 3, bn_branches: tuple[Branch, ...] = BN_BRANCHES) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            NormedLayer(nn.Linear(width, width, bias=number == 0), bn_branches) for number in range(layers)
        )

    def forward(self, x: Tensor, bn_branch: Branch) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x.relu() if number else x, bn_branch)
        return x


class Projector(nn.Module):
    """Encoder and projection head, what the contrastive loss sees."""

    def __init__(self, encoder: Encoder, layers: int = 3) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = Head(encoder.width, layers, encoder.bn_branches)

    def forward(self, x: Tensor, bn_branch: Branch) -> Tensor:
        return self.head(self.encoder(x, bn_branch), bn_branch)


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
    def encoder(self) -> Encoder:
        """The encoder that is evaluated: the moving average where there is one."""
        return (self.q if self.k is None else self.k).encoder

    def forward(self, views: Tensor, bn_branch: Branch) -> Tensor:
        """Views (2N, 3, H, W) to embeddings (2N, d); even rows go through q, odd rows through k."""
        if self.k is None:
            return self.q(views, bn_branch)
        first, second = views.unflatten(0, (-1, 2)).unbind(1)
        return torch.stack((self.q(first, bn_branch), self.k(second, bn_branch)), 1).flatten(0, 1)

    @torch.no_grad()
    def update(self) -> None:
        """k <- m k + (1 - m) q; the authors' code does it before q's step."""
        if self.k is None or self.momentum is None:
            return
        for slow, fast in zip(self.k.parameters(), self.q.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.momentum)


class Classifier(nn.Module):
    """An encoder and a linear layer."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(encoder.width, classes)

    def forward(self, x: Tensor, bn_branch: Branch) -> Tensor:
        return self.linear(self.encoder(x, bn_branch))

    @torch.no_grad()
    def start_from(self, encoder: Encoder) -> None:
        """Take over `encoder`, as far as the branches of this one go, and zero the linear layer (authors' code)."""
        state = encoder.state_dict()
        self.encoder.load_state_dict({name: state[name] for name in self.encoder.state_dict()})
        self.linear.weight.zero_()
        self.linear.bias.zero_()
