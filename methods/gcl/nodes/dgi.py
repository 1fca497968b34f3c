"""DGI (Velickovic et al., ICLR 2019) and MVGRL (Hassani & Khasahmadi, ICML 2020): nodes against a graph's summary.

A discriminator tells nodes of the graph from nodes whose features were shuffled. A shuffle moves rows, so the product
with the first weights is taken once: ``X[p] W = (X W)[p]``. Positives are the real nodes, negatives the shuffled ones.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from retable.nn.sparse import SparseMatrix

from ..losses import discrimination_loss
from ..settings import NodeSettings
from .encoders import Features, gcn_propagation
from .learner import Learner
from .task import NodeTask

MVGRL_ALPHA = 0.2  # teleport probability of the diffusion


class Convolution(nn.Module):
    """``prelu(P X W + b)`` for a propagation P; W Glorot uniform, b zero."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(features, width)))
        self.bias = nn.Parameter(torch.zeros(width))
        self.activation = nn.PReLU()

    def forward(self, x: Features, propagate: "SparseMatrix | Diffusion", shuffle: Tensor) -> tuple[Tensor, Tensor]:
        """Representations (N, width) of the graph and of the one with its feature rows shuffled."""
        h = x @ self.weight
        return self.propagated(h, propagate), self.propagated(h[shuffle], propagate)

    def propagated(self, h: Tensor, propagate: "SparseMatrix | Diffusion") -> Tensor:
        return self.activation(propagate @ h + self.bias)


class Discriminator(nn.Module):
    """Bilinear score ``h W c + b`` of each node (N,) against a summary c (H,)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The shape of torch's bilinear layer, which Glorot's bounds depend on.
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, width, width)))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, h: Tensor, summary: Tensor) -> Tensor:
        return h @ (self.weight[0] @ summary) + self.bias


class DGI(nn.Module):
    """One graph convolution and a discriminator."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.convolution = Convolution(features, width)
        self.discriminator = Discriminator(width)

    def forward(self, x: Features, propagate: SparseMatrix, shuffle: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N,) of the nodes and of the shuffled nodes."""
        real, fake = self.convolution(x, propagate, shuffle)
        c = summary(real)
        return self.discriminator(real, c), self.discriminator(fake, c)

    def embed(self, x: Features, propagate: SparseMatrix) -> Tensor:
        """Representations (N, width)."""
        return self.convolution.propagated(x @ self.convolution.weight, propagate)


class MVGRL(nn.Module):
    """Two convolutions, on the adjacency and on its diffusion; each view's nodes against the other's summary."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.near = Convolution(features, width)
        self.far = Convolution(features, width)
        self.discriminator = Discriminator(width)

    def forward(
        self, x: Features, adjacency: SparseMatrix, diffusion: "Diffusion", shuffle: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores (2N,) of the nodes, far ones first, and of the shuffled nodes."""
        near, near_fake = self.near(x, adjacency, shuffle)
        far, far_fake = self.far(x, diffusion, shuffle)
        c1, c2 = summary(near), summary(far)
        score = self.discriminator
        real = torch.cat([score(far, c1), score(near, c2)])
        return real, torch.cat([score(far_fake, c1), score(near_fake, c2)])

    def embed(self, x: Features, adjacency: SparseMatrix, diffusion: "Diffusion") -> Tensor:
        """Representations (N, width): the sum of both views'."""
        near = self.near.propagated(x @ self.near.weight, adjacency)
        return near + self.far.propagated(x @ self.far.weight, diffusion)


def summary(h: Tensor) -> Tensor:
    """Sigmoid of the mean row: (N, H) -> (H,)."""
    return h.mean(0).sigmoid()


class Discriminate(Learner):
    """DGI or MVGRL as a learner."""

    def __init__(self, task: NodeTask, settings: NodeSettings) -> None:
        super().__init__(task, settings)
        view = task.view
        if settings.method == "dgi":
            self.model: DGI | MVGRL = DGI(task.features, settings.hidden)
            self.operators: tuple = (view.propagate,)
        else:
            self.model = MVGRL(task.features, settings.hidden)
            self.operators = mvgrl_operators(view.edges, len(task.y), view.propagate.csr.dtype)

    def loss(self, epoch: int) -> Tensor:
        x = self.task.view.x
        shuffle = torch.randperm(x.shape[0], device=self.task.y.device)
        real, fake = self.model(x, *self.operators, shuffle)
        return discrimination_loss(real, fake, self.settings.terms)

    def embed(self) -> Tensor:
        return self.model.embed(self.task.view.x, *self.operators)


def mvgrl_operators(edges: Tensor, nodes: int, dtype: torch.dtype, alpha: float = MVGRL_ALPHA):
    """MVGRL's two views of an undirected graph (2, E): the adjacency, with each self loop twice as upstream has it,
    and the personalised PageRank diffusion of the graph with self loops once.
    """
    adjacency = gcn_propagation(edges, nodes, dtype, loop_weight=2)
    return adjacency, Diffusion(gcn_propagation(edges, nodes, dtype), alpha)


class Diffusion:
    """``S = alpha (I - (1 - alpha) P)^-1`` as an operator ``S @ dense``, never as an N x N array.

    P is the symmetric normalised adjacency, with eigenvalues in [-1, 1], so the Chebyshev iteration on
    ``(I - (1 - alpha) P) y = alpha x`` gains a fixed factor each step; it stops at the rounding error of the dtype.
    """

    def __init__(self, propagate: SparseMatrix, alpha: float) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"Diffusion: alpha must be between 0 and 1, got {alpha}")
        self.propagate, self.alpha = propagate, alpha
        radius = 1 - alpha
        factor = (1 - math.sqrt(1 - radius**2)) / radius
        precision = torch.finfo(propagate.csr.dtype).eps
        self.steps = math.ceil(math.log(precision) / math.log(factor))

    def __matmul__(self, dense: Tensor) -> Tensor:
        return _Diffused.apply(self, dense)

    def solve(self, csr: Tensor, x: Tensor) -> Tensor:
        """``alpha (I - (1 - alpha) csr)^-1 x`` for (N, d)."""
        radius, b = 1 - self.alpha, self.alpha * x
        before, y, omega = torch.zeros_like(b), b, 2.0
        for _ in range(self.steps):
            omega = 1 / (1 - radius**2 * omega / 4)
            before, y = y, omega * (radius * (csr @ y) + b - before) + before
        return y


class _Diffused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, diffusion: Diffusion, dense: Tensor) -> Tensor:
        ctx.diffusion = diffusion
        return diffusion.solve(diffusion.propagate.csr, dense)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, ctx.diffusion.solve(ctx.diffusion.propagate.csr_t, grad.contiguous())
