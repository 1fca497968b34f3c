"""The graph networks of the paper's depth study: deep GCN, SGC and GAT, each layer with a normalisation.

All take ``features`` (n, f), dense or :class:`SparseMatrix`, ``propagation`` (n, n), a :class:`SparseMatrix`,
and the :class:`NeighbourMask` of pairs that ContraNorm's softmax leaves out. Parameters are drawn from
torch's global generator when a model is built: call ``torch.manual_seed`` just before. So is dropout. ``norm``
takes a number of channels and makes a normalisation layer, called as ``layer(x, mask)``.
"""

from collections.abc import Callable
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.graph_layers import Features, GraphAttention, GraphConvolution, dropped
from retable.nn.mask import NeighbourMask
from retable.nn.sparse import SparseMatrix

from .baselines import Identity
from .settings import LayerNormKind

NormFactory = Callable[[int], nn.Module]
# Called as observe(layer, stage, features) with a stage of STAGES; features are not detached.
Observer = Callable[[int, str, Features], None]
STAGES = ("input", "convolution", "norm", "activation")


class DeepGCN(nn.Module):
    """GCN of ``depth`` layers: depth - 1 hidden ones and a linear output layer.

    Hidden layer: dropout -> convolution -> normalisation -> LayerNorm -> ReLU -> residual; output layer:
    dropout -> convolution. ``layer_norm``: "none", "shared" (one affine instance for all layers, as in the
    authors' code) or "per-layer". ``residual`` r > 0 adds, after every r-th layer (the first included), the
    features saved at the previous such layer.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        num_classes: int,
        depth: int,
        *,
        norm: NormFactory = Identity,
        layer_norm: LayerNormKind = "none",
        dropout: float = 0.6,
        residual: int = 0,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"DeepGCN: depth must be at least 2 (one hidden layer, one output), got {depth}")
        hidden = depth - 1
        dims = [in_dim] + [hidden_dim] * hidden
        self.hidden_layers = nn.ModuleList(GraphConvolution(a, b) for a, b in pairwise(dims))
        self.out_layer = GraphConvolution(hidden_dim, num_classes)
        self.norms = nn.ModuleList(norm(hidden_dim) for _ in range(hidden))
        self.layer_norms = _layer_norms(layer_norm, hidden, hidden_dim)
        self.dropout, self.residual = dropout, residual

    def forward(
        self,
        features: Features,
        propagation: SparseMatrix,
        mask: NeighbourMask | None = None,
        observe: Observer = lambda *_: None,
    ) -> Tensor:
        """Logits (n, classes). ``observe`` gets each hidden layer's features at the four ``STAGES``."""
        x, saved = features, None
        for i, (layer, norm) in enumerate(zip(self.hidden_layers, self.norms, strict=True)):
            observe(i, "input", x)
            x = layer(dropped(x, self.dropout, self.training), propagation)
            observe(i, "convolution", x)
            x = norm(x, mask)
            observe(i, "norm", x)
            if len(self.layer_norms):
                x = self.layer_norms[i % len(self.layer_norms)](x)
            x = F.relu(x)
            observe(i, "activation", x)
            if self.residual > 0 and i % self.residual == 0:
                x = x if saved is None else x + saved
                saved = x
        return self.out_layer(dropped(x, self.dropout, self.training), propagation)


class SGC(nn.Module):
    """Simple graph convolution: ``depth`` times (propagate, normalise), dropout, a linear layer."""

    def __init__(
        self, in_dim: int, num_classes: int, depth: int, *, norm: NormFactory = Identity, dropout: float = 0.6
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm(in_dim) for _ in range(depth))
        self.linear = nn.Linear(in_dim, num_classes)
        self.dropout = dropout

    def smooth(self, features: Tensor, propagation: SparseMatrix, mask: NeighbourMask | None = None) -> Tensor:
        """Dense features (n, f) after all propagations. Without parameters in the layers one call serves all epochs."""
        x = features
        for norm in self.norms:
            x = norm(propagation @ x, mask)
        return x

    def forward(self, features: Tensor, propagation: SparseMatrix, mask: NeighbourMask | None = None) -> Tensor:
        """Logits (n, classes) from dense features (n, f), since propagation fills them in any case."""
        return self.classify(self.smooth(features, propagation, mask))

    def classify(self, smoothed: Tensor) -> Tensor:
        """Logits (n, classes) from smoothed features (n, f)."""
        return self.linear(F.dropout(smoothed, self.dropout, self.training))


class GAT(nn.Module):
    """GAT of ``depth`` layers; hidden block: dropout -> attention -> normalisation -> ELU -> residual.

    The output layer is dropout -> attention with one head; ``residual`` as in :class:`DeepGCN`.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        num_classes: int,
        depth: int,
        *,
        heads: int = 1,
        norm: NormFactory = Identity,
        dropout: float = 0.6,
        residual: int = 0,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"GAT: depth must be at least 2 (one hidden layer, one output), got {depth}")
        dims = [in_dim] + [hidden_dim] * (depth - 1)
        self.hidden_layers = nn.ModuleList(GraphAttention(a, b, heads, dropout) for a, b in pairwise(dims))
        self.out_layer = GraphAttention(hidden_dim, num_classes, 1, dropout)
        self.norms = nn.ModuleList(norm(hidden_dim) for _ in range(depth - 1))
        self.dropout, self.residual = dropout, residual

    def forward(self, features: Features, propagation: SparseMatrix, mask: NeighbourMask | None = None) -> Tensor:
        """Logits (n, classes)."""
        x, saved = features, None
        for i, (layer, norm) in enumerate(zip(self.hidden_layers, self.norms, strict=True)):
            x = F.elu(norm(layer(dropped(x, self.dropout, self.training), propagation), mask))
            if self.residual > 0 and i % self.residual == 0:
                x = x if saved is None else x + saved
                saved = x
        return self.out_layer(dropped(x, self.dropout, self.training), propagation)


def _layer_norms(kind: LayerNormKind, count: int, dim: int) -> nn.ModuleList:
    counts = {"none": 0, "shared": 1, "per-layer": count}
    if kind not in counts:
        raise ValueError(f"unknown layer_norm {kind!r}: choose one of {', '.join(counts)}")
    return nn.ModuleList(nn.LayerNorm(dim) for _ in range(counts[kind]))
