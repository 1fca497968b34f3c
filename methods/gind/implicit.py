"""The implicit layer: one damped step of a nonlinear diffusion, and the step on a regulariser before it.

A graph of n nodes has m directed edges (i, j). With s_i = (2 D_i)^-1/2 of the out-degree D, node states z (n, C),
encoded input x (n, C) and G the incidence operator, (G y)_ij = s_i y_i - s_j y_j (paper, section 4):

    new = - G^T Norm(tanh(G (W z + U x / s))) W        z <- alpha new + (1 - alpha) z

Mixing with W on the way in and its transpose on the way out makes this a gradient step on a convex function, as long as
Norm does nothing. Norm scales by a standard deviation without moving the mean, so signs stay.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.pointwise import tanh
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

    What flows along (j, i) is the negative of what flows along (i, j). Where every edge has its reverse, one of both is
    computed, `links` are those m / 2 edges, and `copies` is 2; else links are the edges and copies is 1.

    The incidence operator and its transpose are sparse matrices (links, n): a product reads each state twice and writes
    it once, and its gradient costs no sorting.
    """

    def __init__(self, edge_index: Tensor, s: Tensor, node_graph: Tensor | None = None, graphs: int = 1) -> None:
        self.edge_index, self.s, self.node_graph = edge_index, s, node_graph
        self.degree = inverse(s)
        self.copies = 2 if reversible(edge_index, len(s)) else 1
        self.links = edge_index[:, edge_index[0] < edge_index[1]] if self.copies == 2 else edge_index
        self.link_graph = None if node_graph is None else node_graph[self.links[0]]
        links, nodes = self.links.shape[1], len(s)
        numbers = torch.arange(links, device=s.device).repeat(2)
        values = torch.cat([s[self.links[0], 0], -s[self.links[1], 0]])
        self.incidence = SparseMatrix(csr_from_entries(numbers, self.links.flatten(), values, (links, nodes)))
        self.transpose = SparseMatrix(self.copies * self.incidence.csr_t)
        self.graphs = graphs
        self.propagation: SparseMatrix | None = None
        """What a GCN makes of the same edges, once it was asked for."""

    @cached_property
    def laplacian(self) -> SparseMatrix:
        """G^T G (n, n)."""
        rows, cols = self.links
        values = torch.cat([self.s[rows, 0].square(), self.s[cols, 0].square()])
        across = -(self.s[rows, 0] * self.s[cols, 0])
        places = torch.cat([rows, cols, rows, cols]), torch.cat([rows, cols, cols, rows])
        values = self.copies * torch.cat([values, across, across])
        return SparseMatrix(csr_from_entries(*places, values, (len(self.s), len(self.s))))

    def differences(self, y: Tensor) -> Tensor:
        """G y on the links (links, C) of y (n, C)."""
        return self.incidence @ y

    def gather(self, e: Tensor) -> Tensor:
        """G^T e (n, C) of e on the links (links, C), on the others its negative."""
        return self.transpose @ e


def reversible(edge_index: Tensor, nodes: int) -> bool:
    """Whether edges (2, m) come with their reverse, each as often, and none is a loop."""
    source, target = edge_index
    forth, back = (source * nodes + target).sort().values, (target * nodes + source).sort().values
    return bool((source != target).all()) and torch.equal(forth, back)


class SignNorm(nn.Module):
    """e (m, C) over its standard deviation times a weight for each channel: no mean is subtracted, signs stay.

    "LayerNorm" takes one deviation over all entries, "InstanceNorm" one for each channel. For one graph these are
    deviations from the mean plus 1e-5; with the graph of each edge, the root of a graph's mean square plus 1e-5. With
    `copies` 2 each row stands for its negative too, so the mean is 0.
    """

    def __init__(self, kind: NormName, channels: int) -> None:
        super().__init__()
        self.kind = kind
        wide = kind == "LayerNorm" and channels >= 256
        self.weight = nn.Parameter(torch.full((channels,), 0.5 if wide else 1.0))

    def forward(self, e: Tensor, edge_graph: Tensor | None = None, graphs: int = 1, copies: int = 1) -> Tensor:
        """(m, C)."""
        if edge_graph is None:
            over = None if self.kind == "LayerNorm" else 0
            entries = e.numel() if over is None else len(e)
            if copies == 2:
                std = torch.linalg.vector_norm(e, dim=over) / math.sqrt(max(entries, 1))
            else:
                std = e.std(over, correction=0)
            return e * (self.weight / (std + EPS))
        squares = e.square() if self.kind == "InstanceNorm" else e.square().mean(1, keepdim=True)
        total = squares.new_zeros(graphs, squares.shape[1]).index_add_(0, edge_graph, squares)
        count = torch.bincount(edge_graph, minlength=graphs).clamp(min=1).to(e.dtype)[:, None]
        return e * (self.weight / (total / count + EPS).sqrt())[edge_graph]


class ImplicitLayer(nn.Module):
    """One damped step. `double` maps the input by an affine U of its own; else U is W.

    `rescale` divides the input by s, so that it enters the differences unscaled.
    """

    def __init__(self, channels: int, alpha: float, norm: NormName, *, double: bool, rescale: bool) -> None:
        super().__init__()
        self.W = nn.Linear(channels, channels, bias=False)
        self.U = nn.Linear(channels, channels) if double else None
        self.norm = SignNorm(norm, channels)
        self.alpha, self.rescale = alpha, rescale

    def forward(self, x: Tensor, graph: Diffusion, mask: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """The step for encoded input x (n, C): from a state z (n, C) to the next one.

        `mask` (n, C) is the dropout of the new part. What enters beside W z is the same in each step.
        """
        inside = (self.W if self.U is None else self.U)(x)
        entering = graph.degree * inside if self.rescale else inside

        def step(z: Tensor) -> Tensor:
            inner = torch.addmm(entering, z, self.W.weight.T)
            flow = self.norm(tanh(graph.differences(inner)), graph.link_graph, graph.graphs, graph.copies)
            new = graph.gather(flow) @ -self.W.weight
            return z.lerp(new if mask is None else mask * new, self.alpha)

        return step


def regulariser(kind: RegulariserName, z: Tensor, graph: Diffusion) -> Tensor:
    """r(z), a scalar.

    "Lap": |G z|^2 / n. "Dec": mean square of the products of different columns of s z, scaled to unit length, that
    exceed 1/2 in size.
    """
    if kind == "Lap":
        return graph.copies * graph.differences(z).square().sum() / len(z)
    y = graph.s * z
    columns = y / (EPS_COLUMNS + y.square().sum(0)).sqrt()
    products = columns.T @ columns
    return F.hardshrink(products - torch.diag(products.diagonal()), 0.5).square().mean()


def regularised(kind: RegulariserName, z: Tensor, graph: Diffusion, rate: float) -> Tensor:
    """z - rate dr/dz, differentiable where z is."""
    if kind == "none":
        return z
    if kind == "Lap":
        return z.sub(graph.laplacian @ z, alpha=2 * rate / len(z))
    with torch.enable_grad():
        through = z.requires_grad and torch.is_grad_enabled()
        point = z if z.requires_grad else z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(regulariser(kind, point, graph), point, create_graph=through)
    return z - rate * slope
