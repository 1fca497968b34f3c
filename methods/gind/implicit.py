"""The implicit layer: one damped step of a nonlinear diffusion, and the step on a regulariser before it.

A graph of n nodes has m directed edges (i, j). With s_i = (2 D_i)^-1/2 of the out-degree D, node states z (n, C),
encoded input x (n, C) and G the incidence operator, (G y)_ij = s_i y_i - s_j y_j (paper, section 4):

    new = - G^T Norm(tanh(G (W z + U x / s))) W        z <- alpha new + (1 - alpha) z

Mixing with W on the way in and its transpose on the way out makes this a gradient step on a convex function, as long as
Norm does nothing. Norm scales by a standard deviation without moving the mean, so signs stay.
"""

from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.sparse import SparseMatrix, csr_from_entries

NormName = Literal["LayerNorm", "InstanceNorm"]
RegulariserName = Literal["none", "Lap", "Dec"]
EPS = 1e-5
EPS_COLUMNS = 1e-8


def node_scale(edge_index: Tensor, nodes: int, *, self_loops: bool) -> Tensor:
    """s (n, 1) = (2 D)^-1/2 of out-degrees D, one more with `self_loops`.

    It is 0 for nodes without edges, which so send and receive nothing. A loop's own difference would be 0: none is
    added to the edges.
    """
    degree = torch.bincount(edge_index[0], minlength=nodes).to(torch.get_default_dtype()) + self_loops
    return inverse(torch.sqrt(2 * degree))[:, None]


def cut(edge_index: Tensor, nodes: int, *, self_loops: bool) -> tuple[Tensor, Tensor]:
    """Each undirected edge once, (2, m / 2) with the smaller node first, and s (n, 1) = D^-1/2 (the authors' PPI form).

    D counts one more with `self_loops`.
    """
    keys = torch.unique(torch.cat([edge_index[0] * nodes + edge_index[1], edge_index[1] * nodes + edge_index[0]]))
    both = torch.stack([keys // nodes, keys % nodes])
    degree = torch.bincount(both[0], minlength=nodes).to(torch.get_default_dtype()) + self_loops
    return both[:, both[0] < both[1]], inverse(degree.sqrt())[:, None]


def inverse(x: Tensor) -> Tensor:
    """1 / x, 0 where x is 0."""
    return torch.where(x == 0, torch.zeros_like(x), 1 / x)


class Diffusion:
    """A graph's edges (2, m), s (n, 1), and for `graphs` graphs as one the graph of each node (n,).

    The incidence operator and its transpose are sparse matrices (m, n): a product reads each state twice and writes it
    once, and its gradient costs no sorting.
    """

    def __init__(self, edge_index: Tensor, s: Tensor, node_graph: Tensor | None = None, graphs: int = 1) -> None:
        self.edge_index, self.s, self.node_graph = edge_index, s, node_graph
        self.degree = inverse(s)
        self.edge_graph = None if node_graph is None else node_graph[edge_index[0]]
        edges, nodes = edge_index.shape[1], len(s)
        numbers = torch.arange(edges, device=s.device).repeat(2)
        values = torch.cat([s[edge_index[0], 0], -s[edge_index[1], 0]])
        self.incidence = SparseMatrix(csr_from_entries(numbers, edge_index.flatten(), values, (edges, nodes)))
        self.transpose = SparseMatrix(self.incidence.csr_t)
        self.graphs = graphs
        self.propagation: SparseMatrix | None = None
        """What a GCN makes of the same edges, once it was asked for."""

    @cached_property
    def laplacian(self) -> SparseMatrix:
        """G^T G (n, n)."""
        rows, cols = self.edge_index
        values = torch.cat([self.s[rows, 0].square(), self.s[cols, 0].square()])
        across = -(self.s[rows, 0] * self.s[cols, 0])
        places = torch.cat([rows, cols, rows, cols]), torch.cat([rows, cols, cols, rows])
        nodes = len(self.s)
        return SparseMatrix(csr_from_entries(*places, torch.cat([values, across, across]), (nodes, nodes)))

    def differences(self, y: Tensor) -> Tensor:
        """G y (m, C) of y (n, C)."""
        return self.incidence @ y

    def gather(self, e: Tensor) -> Tensor:
        """G^T e (n, C) of e (m, C)."""
        return self.transpose @ e


class SignNorm(nn.Module):
    """e (m, C) over its standard deviation times a weight for each channel: no mean is subtracted, signs stay.

    "LayerNorm" takes one deviation over all entries, "InstanceNorm" one for each channel. For one graph these are
    deviations from the mean plus 1e-5; with the graph of each edge, the root of a graph's mean square plus 1e-5.
    """

    def __init__(self, kind: NormName, channels: int) -> None:
        super().__init__()
        self.kind = kind
        wide = kind == "LayerNorm" and channels >= 256
        self.weight = nn.Parameter(torch.full((channels,), 0.5 if wide else 1.0))

    def forward(self, e: Tensor, edge_graph: Tensor | None = None, graphs: int = 1) -> Tensor:
        """(m, C)."""
        if edge_graph is None:
            std = e.std(correction=0) if self.kind == "LayerNorm" else e.std(0, correction=0)
            return e / (std + EPS) * self.weight
        squares = e.square() if self.kind == "InstanceNorm" else e.square().mean(1, keepdim=True)
        total = squares.new_zeros(graphs, squares.shape[1]).index_add_(0, edge_graph, squares)
        count = torch.bincount(edge_graph, minlength=graphs).clamp(min=1).to(e.dtype)[:, None]
        return e / (total / count + EPS).sqrt()[edge_graph] * self.weight


class ImplicitLayer(nn.Module):
    """One damped step. `double` maps the input by a matrix U of its own; else it goes through W beside the state.

    `rescale` divides the input by s, so that it enters the differences unscaled.
    """

    def __init__(self, channels: int, alpha: float, norm: NormName, *, double: bool, rescale: bool) -> None:
        super().__init__()
        self.W = nn.Linear(channels, channels, bias=False)
        self.U = nn.Linear(channels, channels) if double else None
        self.norm = SignNorm(norm, channels)
        self.alpha, self.rescale = alpha, rescale

    def forward(self, z: Tensor, x: Tensor, graph: Diffusion, mask: Tensor | None = None) -> Tensor:
        """The next state (n, C) of z and encoded input x (n, C); `mask` (n, C) is the dropout of the new part."""
        degree = graph.degree if self.rescale else 1.0
        inner = self.W(z + degree * x) if self.U is None else self.W(z) + degree * self.U(x)
        flow = self.norm(torch.tanh(graph.differences(inner)), graph.edge_graph, graph.graphs)
        new = -(graph.gather(flow) @ self.W.weight)
        return self.alpha * (new if mask is None else mask * new) + (1 - self.alpha) * z


def regulariser(kind: RegulariserName, z: Tensor, graph: Diffusion) -> Tensor:
    """r(z), a scalar.

    "Lap": |G z|^2 / n. "Dec": mean square of the products of different columns of s z, scaled to unit length, that
    exceed 1/2 in size.
    """
    if kind == "Lap":
        return graph.differences(z).square().sum() / len(z)
    y = graph.s * z
    columns = y / (EPS_COLUMNS + y.square().sum(0)).sqrt()
    products = columns.T @ columns
    return F.hardshrink(products - torch.diag(products.diagonal()), 0.5).square().mean()


def regularised(kind: RegulariserName, z: Tensor, graph: Diffusion, rate: float) -> Tensor:
    """z - rate dr/dz, differentiable where z is."""
    if kind == "none":
        return z
    if kind == "Lap":
        return z - 2 * rate / len(z) * (graph.laplacian @ z)
    with torch.enable_grad():
        through = z.requires_grad and torch.is_grad_enabled()
        point = z if z.requires_grad else z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(regulariser(kind, point, graph), point, create_graph=through)
    return z - rate * slope
