"""The canonization as a PyG transform: `transform = CanonicalEncoding(k=8)` before any model that takes `data.x`."""

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from .canonize import Precision
from .encoding import encode, normalised_adjacency, spectrum


class CanonicalEncoding(BaseTransform):
    """Append k canonized eigenvectors of D^-1/2 A D^-1/2 + I to `data.x`, scaled by the roots of their eigenvalues.

    Also sets `data.canonical`, bool (k,): whether a column is canonical; the others' directions are the solver's.
    `sign` and `basis` switch the two steps off, `scale` the scaling, `exact` takes the authors' rounding in place of
    gaps. ValueError for a graph without nodes.
    """

    def __init__(
        self, k: int, *, sign: bool = True, basis: bool = True, scale: bool = True, exact: bool = False
    ) -> None:
        self.k, self.precision = k, Precision(exact)
        self.steps = {"sign": sign, "basis": basis, "scale": scale}

    def forward(self, data: Data) -> Data:
        nodes = int(data.num_nodes or 0)
        if not nodes:
            raise ValueError("a graph without nodes has no positional encoding")
        adjacency = torch.zeros(nodes, nodes, dtype=torch.float64)
        source, target = (index.cpu() for index in data.edge_index)
        adjacency.index_put_((source, target), torch.ones(len(source), dtype=torch.float64), accumulate=True)
        matrix = normalised_adjacency(adjacency) + torch.eye(nodes, dtype=torch.float64)
        found = encode(spectrum(matrix, drop_trivial=False), self.k, self.precision, **self.steps)
        data.x = _beside(data.x, found.columns.to(data.edge_index.device))
        data.canonical = found.canonical
        return data


def _beside(x: Tensor | None, columns: Tensor) -> Tensor:
    return columns.float() if x is None else torch.cat([x, columns.to(x.dtype)], dim=1)
