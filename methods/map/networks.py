"""Networks on sets of graphs that read a positional encoding beside the features: GIN and GatedGCN."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.graph_batch import GraphBatch

from .settings import ClassifySettings


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU and BatchNorm between them."""
    layers: list[nn.Module] = []
    for number, (a, b) in enumerate(itertools.pairwise(widths)):
        layers += [nn.Linear(a, b)] + ([nn.ReLU(), nn.BatchNorm1d(b)] if number < len(widths) - 2 else [])
    return nn.Sequential(*layers)


class Trunk(nn.Module):
    """The network that reads an encoding (N, k): GIN on each column by itself, the sum over columns, an MLP.

    Columns beyond a graph's number of nodes are masked. `even` adds what the same network gives for the columns of
    opposite sign (SignNet, Lim et al., 2022), so that signs do not matter; a canonized encoding needs no second pass.
    """

    def __init__(self, k: int, hidden: int, layers: int, *, even: bool, out_layers: int = 2) -> None:
        super().__init__()
        widths = [1] + [hidden] * layers
        self.convs = nn.ModuleList(mlp(a, hidden, b) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(layers - 1))
        self.out = mlp(*[hidden] * out_layers, k)
        self.even = even

    def forward(self, columns: Tensor, batch: GraphBatch) -> Tensor:
        """(N, k) of columns (N, k)."""
        read = self._read(columns, batch) + self._read(-columns, batch) if self.even else self._read(columns, batch)
        slots = torch.arange(columns.shape[1], device=columns.device)
        inside = slots < batch.sizes[batch.node_graph][:, None]
        return self.out((read * inside[:, :, None]).sum(1))

    def _read(self, columns: Tensor, batch: GraphBatch) -> Tensor:
        """(N, k, hidden)."""
        nodes, k = columns.shape
        h = columns[:, :, None]
        for number, conv in enumerate(self.convs):
            if number:
                h = self.norms[number - 1](h.flatten(0, 1)).view(nodes, k, -1)
            h = (batch.neighbourhood @ h.flatten(1)).view(nodes * k, -1)
            h = conv(h).view(nodes, k, -1)
        return h


class GINLayer(nn.Module):
    """ReLU(BatchNorm(MLP(x_i + sum_{j -> i} x_j)))."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.nn, self.norm = mlp(dim, dim, dim), nn.BatchNorm1d(dim)

    def forward(self, h: Tensor, e: Tensor, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        return F.relu(self.norm(self.nn(batch.neighbourhood @ h))), e


class GatedGCNLayer(nn.Module):
    """A gated graph convolution with edge states (Bresson and Laurent, 2018), as the authors configure it.

    e' = D h_source + E h_target + C e; h' = A h_target + sum sigmoid(e') B h_source / (sum sigmoid(e') + 1e-6);
    BatchNorm and ReLU on both; a residual connection where the width stays.
    """

    def __init__(self, dim: int, out: int | None = None) -> None:
        super().__init__()
        self.residual, out = out in (None, dim), out or dim
        self.A, self.B, self.C, self.D, self.E = (nn.Linear(dim, out) for _ in range(5))
        self.node_norm, self.edge_norm = nn.BatchNorm1d(out), nn.BatchNorm1d(out)

    def forward(self, h: Tensor, e: Tensor, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """Node states (N, out) and edge states (E, out)."""
        source, target = batch.edge_index
        gates = self.D(h)[source] + self.E(h)[target] + self.C(e)
        open_ = torch.sigmoid(gates)
        zero = h.new_zeros(len(h), self.A.out_features)
        flow = zero.index_add(0, target, open_ * self.B(h)[source])
        new = self.A(h) + flow / (zero.index_add(0, target, open_) + 1e-6)
        if not self.residual:
            return F.relu(self.node_norm(new)), F.relu(self.edge_norm(gates))
        return h + F.relu(self.node_norm(new)), e + F.relu(self.edge_norm(gates))


class GraphClassifier(nn.Module):
    """Logits of graphs: features (N, F) and an encoding (N, k) are embedded, passed on, and summed over nodes."""

    def __init__(self, features: int, classes: int, s: ClassifySettings) -> None:
        super().__init__()
        self.embed = nn.Linear(features, s.hidden)
        self.trunk = None
        if s.encoding != "none":
            self.trunk = Trunk(s.k, s.trunk_hidden, s.trunk_layers, even=s.encoding == "two-branch")
            self.place = nn.Linear(s.k, s.hidden)
            self.join = nn.Linear(2 * s.hidden, s.hidden)
        layer = GINLayer if s.model == "gin" else GatedGCNLayer
        self.layers = nn.ModuleList(layer(s.hidden) for _ in range(s.layers))
        self.edge = nn.Parameter(torch.zeros(s.hidden))
        self.head = nn.Sequential(nn.Linear(s.hidden, s.hidden // 2), nn.ReLU(), nn.Linear(s.hidden // 2, classes))
        self.dropout = s.dropout

    def forward(self, batch: GraphBatch, columns: Tensor) -> Tensor:
        """Logits (G, classes)."""
        h = self.embed(batch.x)
        if self.trunk is not None:
            h = self.join(torch.cat([h, self.place(self.trunk(columns, batch))], 1))
        e = self.edge.expand(batch.edge_index.shape[1], -1)
        for layer in self.layers:
            h, e = layer(h, e, batch)
            h = F.dropout(h, self.dropout, self.training)
        return self.head(batch.membership @ h)
