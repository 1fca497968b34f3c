"""Encoders of graphs: GIN (Xu et al., 2019, https://arxiv.org/abs/1810.00826) as the authors use it, and an MLP."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.graph_batch import GraphBatch

from ..settings import GraphSettings


class GINLayer(nn.Module):
    """``MLP(x_i + sum_{j -> i} x_j)`` with a two-layer MLP and the epsilon of the paper fixed at 0."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.nn = nn.Sequential(nn.Linear(features, dim), nn.ReLU(inplace=True), nn.Linear(dim, dim))

    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """x (N, features) -> (N, dim)."""
        return self.nn(batch.neighbourhood @ x)


class GIN(nn.Module):
    """L layers, each followed by ReLU and then BatchNorm; all layers are concatenated: width L dim."""

    def __init__(self, features: int, dim: int, layers: int) -> None:
        super().__init__()
        widths = [features] + [dim] * layers
        self.convs = nn.ModuleList(GINLayer(a, b) for a, b in itertools.pairwise(widths))
        self.bns = nn.ModuleList(nn.BatchNorm1d(dim) for _ in range(layers))
        self.width = dim * layers

    def forward(self, batch: GraphBatch) -> tuple[Tensor, list[Tensor]]:
        """Graph embeddings (G, L dim), the sums over nodes, and the nodes of each layer, L times (N, dim)."""
        h, hidden = batch.x, []
        for conv, norm in zip(self.convs, self.bns, strict=True):
            h = norm(F.relu(conv(h, batch), inplace=True))
            hidden.append(h)
        return torch.cat([batch.membership @ h for h in hidden], dim=1), hidden


class MLPEncoder(nn.Module):
    """The ablation without message passing: Linear, ReLU, BatchNorm, Dropout(0.5), Linear, sum over nodes."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.nn = nn.Sequential(
            nn.Linear(features, dim), nn.ReLU(), nn.BatchNorm1d(dim), nn.Dropout(0.5), nn.Linear(dim, dim)
        )
        self.width = dim

    def forward(self, batch: GraphBatch) -> tuple[Tensor, list[Tensor]]:
        """Graph embeddings (G, dim) and the nodes of the last layer (N, dim); edges are not looked at."""
        nodes = self.nn(batch.x)
        return batch.membership @ nodes, [nodes]


def make_encoder(features: int, settings: GraphSettings) -> GIN | MLPEncoder:
    """The encoder of the settings; its weights come from torch's global stream."""
    s = settings
    return GIN(features, s.hidden, s.layers) if s.encoder == "gin" else MLPEncoder(features, s.hidden)


def projection_head(width: int) -> nn.Sequential:
    """Linear, ReLU, Linear, all of the same width: between encoder and loss, absent from evaluation."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def reset_linear(model: nn.Module) -> None:
    """Glorot-uniform weights and zero biases in every Linear layer of the model."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
