"""Layers of graph networks: features ``x`` (n, in), dense or :class:`SparseMatrix`, to (n, out).

``propagation`` (n, n) is a :class:`SparseMatrix`. Parameters are drawn from torch's global generator, and dropout too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.sparse import SparseMatrix, row_indices

Features = Tensor | SparseMatrix


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


def dropped(x: Features, p: float, training: bool) -> Features:
    """Dropout with rate ``p``; of a sparse matrix, of its stored entries."""
    return x.dropout(p, training) if isinstance(x, SparseMatrix) else F.dropout(x, p, training)
