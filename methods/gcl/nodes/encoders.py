"""Encoders of the node methods: GCNs and, as the ablation without edges, an MLP; normaliser and projector.

The paper's normalisers spread features inside the encoder: ContraNorm ("contranorm") or its feature form
("feature-contranorm"), each followed by an affine LayerNorm, or that LayerNorm alone ("layernorm"). One module is
shared by all layers.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.contranorm.norm import ContraNorm, FeatureContraNorm
from retable.nn.sparse import SparseMatrix, csr_from_entries

Features = Tensor | SparseMatrix
NORMALISERS = ("none", "layernorm", "contranorm", "feature-contranorm")
ACTIVATIONS = ("prelu", "relu", "rrelu")


@dataclass(frozen=True, eq=False)
class View:
    """A graph as an encoder sees it, whole or augmented.

    ``x`` (N, F), ``edges`` int64 (2, E) source above target, ``propagate`` (N, N) its normalised adjacency, and
    ``columns`` (F,) with 1 for each feature that is kept, or None for all.
    """

    x: Features
    edges: Tensor
    propagate: SparseMatrix
    columns: Tensor | None = None

    @classmethod
    def of(cls, x: Features, edges: Tensor) -> "View":
        """The whole graph."""
        dtype = x.dtype if isinstance(x, Tensor) else x.csr.dtype
        return cls(x, edges, gcn_propagation(edges, x.shape[0], dtype))

    def times(self, weight: Tensor) -> Tensor:
        """``x @ weight`` (N, H) with the dropped features left out: rows of the weight, so x stays sparse."""
        return self.x @ (weight if self.columns is None else weight * self.columns[:, None])


def gcn_propagation(
    edges: Tensor, nodes: int, dtype: torch.dtype = torch.float32, loop_weight: float = 1
) -> SparseMatrix:
    """``D^-1/2 (A + w I) D^-1/2`` (N, N), row = target, D the row sums, w ``loop_weight``.

    Self loops in ``edges`` (2, E) are replaced by those of I; repeated edges add up; a node without edges keeps its
    own features.
    """
    source, target = edges[:, edges[0] != edges[1]]
    loops = torch.arange(nodes, device=edges.device)
    rows, cols = torch.cat([target, loops]), torch.cat([source, loops])
    scale = (torch.bincount(target, minlength=nodes).to(dtype) + loop_weight).rsqrt()
    values = scale[rows] * scale[cols]
    values[len(target) :] *= loop_weight
    return SparseMatrix(csr_from_entries(rows, cols, values, (nodes, nodes)))


class GCNEncoder(nn.Module):
    """``x <- act(norm(A x W + b))``, ``layers`` times, the last one included; all layers are ``width`` wide.

    W Glorot uniform, b zero; activation and normaliser are shared by the layers.
    """

    def __init__(
        self, features: int, width: int, layers: int = 2, activation: str = "prelu", norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"GCNEncoder: layers must be at least 1, got {layers}")
        dims = [features] + [width] * layers
        self.weights = nn.ParameterList(nn.init.xavier_uniform_(torch.empty(a, b)) for a, b in pairwise(dims))
        self.biases = nn.ParameterList(torch.zeros(width) for _ in range(layers))
        self.norm = norm or nn.Identity()
        self.activation = make_activation(activation)

    def forward(self, view: View) -> Tensor:
        """Representations (N, width)."""
        h = view.times(self.weights[0])
        for i, bias in enumerate(self.biases):
            h = h @ self.weights[i] if i else h
            h = self.activation(self.norm(view.propagate @ h + bias))
        return h


class BatchNormGCN(nn.Module):
    """The authors' network for ogbn-arxiv: ``layers`` convolutions, between them BatchNorm, activation and dropout.

    All layers but the last are twice ``width`` wide, and ``norm`` stands before their BatchNorm. W Glorot uniform, b
    zero.
    """

    def __init__(
        self,
        features: int,
        width: int,
        layers: int = 3,
        activation: str = "relu",
        norm: nn.Module | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if layers < 2:
            raise ValueError(f"BatchNormGCN: layers must be at least 2, got {layers}")
        dims = [features] + [2 * width] * (layers - 1) + [width]
        self.weights = nn.ParameterList(nn.init.xavier_uniform_(torch.empty(a, b)) for a, b in pairwise(dims))
        self.biases = nn.ParameterList(torch.zeros(b) for b in dims[1:])
        self.norm = norm or nn.Identity()
        self.between = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(2 * width), make_activation(activation), nn.Dropout(dropout))
            for _ in range(layers - 1)
        )

    def forward(self, view: View) -> Tensor:
        """Representations (N, width)."""
        h = view.propagate @ view.times(self.weights[0]) + self.biases[0]
        for between, weight, bias in zip(self.between, self.weights[1:], self.biases[1:], strict=True):
            h = view.propagate @ (between(self.norm(h)) @ weight) + bias
        return h


class MLPEncoder(nn.Module):
    """The ablation without edges: Linear, GELU, normaliser, dropout, Linear, normaliser.

    Without a normaliser the first one is a LayerNorm (eps 1e-6) and the second is left out. W Glorot uniform, b normal
    with std 1e-6.
    """

    def __init__(self, features: int, width: int, norm: nn.Module | None = None, dropout: float = 0.5) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.init.xavier_uniform_(torch.empty(a, width)) for a in (features, width))
        self.biases = nn.ParameterList(nn.init.normal_(torch.empty(width), std=1e-6) for _ in range(2))
        self.first = norm or nn.LayerNorm(width, eps=1e-6)
        self.second = norm or nn.Identity()
        self.dropout = dropout

    def forward(self, view: View) -> Tensor:
        """Representations (N, width); the view's edges are not looked at."""
        h = self.first(F.gelu(view.times(self.weights[0]) + self.biases[0]))
        h = F.dropout(h, self.dropout, self.training)
        return self.second(h @ self.weights[1] + self.biases[1])


class Projector(nn.Sequential):
    """Linear, ELU, Linear back to the encoder's width; between encoder and loss only."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.ELU(), nn.Linear(hidden, width))


def make_normaliser(name: str, width: int, scale: float = 1.0, tau: float = 1.0) -> nn.Module | None:
    """One of ``NORMALISERS``; ``scale`` and ``tau`` are ContraNorm's (not the loss's temperature)."""
    if name not in NORMALISERS:
        raise ValueError(f"unknown normaliser {name!r}: choose one of {', '.join(NORMALISERS)}")
    if name == "none":
        return None
    if name == "layernorm":
        return nn.LayerNorm(width)
    spread = ContraNorm(scale, tau) if name == "contranorm" else FeatureContraNorm(scale, tau)
    return nn.Sequential(spread, nn.LayerNorm(width))


def make_activation(name: str) -> nn.Module:
    """One of ``ACTIVATIONS``: PReLU with one parameter, ReLU, or RReLU with a random slope in training."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return {"prelu": nn.PReLU, "relu": nn.ReLU, "rrelu": nn.RReLU}[name]()
