"""The graph networks of the paper's depth study: deep GCN, SGC and GAT, each layer with a normalisation.

All take ``features`` (n, f), dense or :class:`SparseMatrix`, ``propagation`` (n, n), a :class:`SparseMatrix`,
and the :class:`NeighbourMask` of pairs that ContraNorm's softmax leaves out. Parameters are drawn from
torch's global generator when a model is built: call ``torch.manual_seed`` just before. So is dropout. ``norm``
takes a number of channels and makes a normalisation layer, called as ``layer(x, mask)``.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.mask import NeighbourMask
from retable.nn.sparse import SparseMatrix, row_indices

from .baselines import Identity
from .settings import LayerNormKind

Features = Tensor | SparseMatrix
NormFactory = Callable[[int], nn.Module]
# Called as observe(layer, stage, features) with a stage of STAGES; features are not detached.
Observer = Callable[[int, str, Features], None]
STAGES = ("input", "convolution", "norm", "activation")


class GraphConvolution(nn.Module):
    """``propagation @ dropout(x) @ W + b``; W and b uniform in +- 1 / sqrt(out), b of shape (1, out)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        bound = out_dim**-0.5
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1, out_dim).uniform_(-bound, bound))

    def forward(self, x: Features, propagation: SparseMatrix) -> Tensor:
        """(n, in) -> (n, out). The product with W comes first: it is the narrower one to propagate."""
        return propagation @ (x @ self.weight) + self.bias


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
            x = layer(_dropout(x, self.dropout, self.training), propagation)
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
        return self.out_layer(_dropout(x, self.dropout, self.training), propagation)


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


class GraphAttention(nn.Module):
    """Multi-head graph attention, heads concatenated (Velickovic et al., ICLR 2018), over stored entries.

    Per head ``h = x W``, score ``leaky_relu_0.2(a . [h_i, h_j])`` on each stored entry (i, j) (its value is
    not used), softmax over j, dropout on the coefficients, sum over j. W, a: xavier normal, ReLU gain.
    """

    def __init__(self, in_dim: int, out_dim: int, heads: int, dropout: float = 0.6) -> None:
        super().__init__()
        if out_dim % heads:
            raise ValueError(f"GraphAttention: out_dim {out_dim} is not a multiple of heads {heads}")
        width = out_dim // heads
        self.weight = nn.Parameter(torch.empty(heads, in_dim, width))
        self.a = nn.Parameter(torch.empty(heads, 1, 2 * width))
        gain = nn.init.calculate_gain("relu")
        for head in range(heads):
            nn.init.xavier_normal_(self.weight.data[head], gain)
            nn.init.xavier_normal_(self.a.data[head], gain)
        self.dropout = dropout

    def forward(self, x: Features, propagation: SparseMatrix) -> Tensor:
        """(n, in) -> (n, out)."""
        rows, cols = row_indices(propagation.csr), propagation.csr.col_indices()
        n, (heads, _, width) = propagation.shape[0], self.weight.shape
        # One product for all heads: (n, in) @ (in, heads * width) -> (n, heads, width)
        h = (x @ self.weight.transpose(0, 1).flatten(1)).view(n, heads, width)
        source, target = (h * self.a[:, 0, :width]).sum(-1), (h * self.a[:, 0, width:]).sum(-1)  # (n, heads)
        score = F.leaky_relu(source[rows] + target[cols], 0.2)  # (E, heads)
        index = rows[:, None].expand_as(score)
        zeros = score.new_zeros(n, heads)
        highest = zeros.scatter_reduce(0, index, score.detach(), "amax", include_self=False)
        weight = (score - highest[rows]).exp()
        weight = weight / zeros.index_add(0, rows, weight)[rows]
        weight = F.dropout(weight, self.dropout, self.training)
        return h.new_zeros(n, heads, width).index_add(0, rows, weight[..., None] * h[cols]).flatten(1)


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
            x = F.elu(norm(layer(_dropout(x, self.dropout, self.training), propagation), mask))
            if self.residual > 0 and i % self.residual == 0:
                x = x if saved is None else x + saved
                saved = x
        return self.out_layer(_dropout(x, self.dropout, self.training), propagation)


def _layer_norms(kind: LayerNormKind, count: int, dim: int) -> nn.ModuleList:
    counts = {"none": 0, "shared": 1, "per-layer": count}
    if kind not in counts:
        raise ValueError(f"unknown layer_norm {kind!r}: choose one of {', '.join(counts)}")
    return nn.ModuleList(nn.LayerNorm(dim) for _ in range(counts[kind]))


def _dropout(x: Features, p: float, training: bool) -> Features:
    return x.dropout(p, training) if isinstance(x, SparseMatrix) else F.dropout(x, p, training)
