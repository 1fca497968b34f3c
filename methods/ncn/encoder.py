"""The encoder of the citation graphs, "puregcn": a linear map, then propagation without weights or activation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.sparse import SparseMatrix, csr_from_entries

from .overlap import Neighbours


class PureGCN(nn.Module):
    """h = dropout(x) W + b; y_l = s (A + I) (s y_(l-1)), s = (1 + degree)^-1/2; out = sum of w_l dropout(y_l).

    The weights w of the sum start from N(0, 1), so a layer's share may be near 0 or negative (authors' code).
    Dropout rates: `features` of x, `hidden` of h, `propagated` of y.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        layers: int = 1,
        features: float = 0.0,
        hidden: float = 0.0,
        propagated: float = 0.0,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, dim)
        self.jkparams = nn.Parameter(torch.randn(layers))
        self.features, self.hidden, self.propagated = features, hidden, propagated

    def forward(self, x: Tensor | SparseMatrix, graph: Neighbours) -> Tensor:
        """Node states (n, dim) of features (n, in_dim)."""
        if isinstance(x, SparseMatrix):
            h = x.dropout(self.features, self.training) @ self.linear.weight.T + self.linear.bias
        else:
            h = self.linear(F.dropout(x, self.features, self.training))
        h = F.dropout(h, self.hidden, self.training)
        matrix = propagation(graph, h.dtype)
        out = torch.zeros_like(h)
        for weight in self.jkparams:
            h = F.dropout(matrix @ h, self.propagated, self.training)
            out = out + weight * h
        return out


def propagation(graph: Neighbours, dtype: torch.dtype) -> SparseMatrix:
    """S (A + I) S (n, n), S = diag((1 + degree)^-1/2)."""
    # As `sym_normalise(combine(...))`, in half the time: the edges are there once in each direction already.
    s = (1 + graph.degree).to(dtype).rsqrt()
    nodes = torch.arange(graph.nodes, device=s.device)
    rows, cols = torch.cat([graph.edge_index, torch.stack([nodes, nodes])], 1)
    return SparseMatrix(csr_from_entries(rows, cols, s[rows] * s[cols], (graph.nodes, graph.nodes)))
