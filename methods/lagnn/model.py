"""LAGCN: a GCN with a first layer for each copy of the features, and the loss that ties its draws together.

With the normalised adjacency A and inputs X_1 .. X_b, generated ones first, the real features last (section 3.3):

    H = [ReLU(A dropout(X_1) W_1 + b_1), ..., ReLU(A dropout(X_b) W_b + b_b)]
    log P = log_softmax(A dropout(H) W + b)

    loss = mean over S draws of NLL(P_s, training nodes) + lam mean_s mean_nodes |P_s - q|^2,
    q = sharpened(mean_s P_s, T) without a gradient
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.dropped_product import dropped_product
from retable.nn.graph_layers import Features
from retable.nn.sparse import SparseMatrix

Init = Literal["official", "xavier"]


class GraphConvolution(nn.Module):
    """A (X W) + b, W (in, out).

    "official" draws W and b from N(-s, s^2), s = out^-1/2, as the authors' code does: a normal distribution gets the
    bounds of a uniform one, so nearly all units of the first layer are dead until weight decay has shrunk them.
    """

    def __init__(self, in_dim: int, out_dim: int, init: Init = "official") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        if init == "official":
            std = out_dim**-0.5
            nn.init.normal_(self.weight, -std, std)
            nn.init.normal_(self.bias, -std, std)
        else:
            nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Features, adjacency: SparseMatrix | Tensor, dropout: float = 0.0) -> Tensor:
        """(n, out) of x (n, in) and A (n, n); in training x goes through dropout first."""
        return adjacency @ dropped_product(x, self.weight, dropout, self.training) + self.bias


class LAGCN(nn.Module):
    """`branches` copies of the features; one alone is a GCN of two layers."""

    def __init__(
        self, features: int, hidden: int, classes: int, branches: int, *, dropout: float = 0.0, init: Init = "official"
    ) -> None:
        super().__init__()
        self.first = nn.ModuleList(GraphConvolution(features, hidden, init) for _ in range(branches))
        self.second = GraphConvolution(branches * hidden, classes, init)
        self.dropout = dropout

    def forward(self, inputs: Sequence[Features], adjacency: SparseMatrix | Tensor) -> Tensor:
        """log P (n, classes) of one input (n, F) for each branch."""
        if len(inputs) != len(self.first):
            raise ValueError(f"{len(inputs)} inputs for {len(self.first)} branches")
        hidden = [torch.relu(layer(x, adjacency, self.dropout)) for layer, x in zip(self.first, inputs, strict=True)]
        return self.second(torch.cat(hidden, 1), adjacency, self.dropout).log_softmax(1)


def supervised_loss(log_p: Tensor, y: Tensor, nodes: Tensor) -> Tensor:
    """Mean NLL of S draws log P (S, n, classes) on `nodes` with labels y (n,)."""
    return torch.stack([F.nll_loss(one[nodes], y[nodes]) for one in log_p]).mean()


def consistency_loss(log_p: Tensor, temperature: float, weight: float) -> Tensor:
    """`weight` times the mean squared distance of S draws' predictions (S, n, classes) from their sharpened mean."""
    p = log_p.exp()
    target = sharpened(p.mean(0), temperature).detach()
    return weight * (p - target).square().sum(2).mean()


def sharpened(p: Tensor, temperature: float) -> Tensor:
    """p^(1/T) over its sum; distributions (n, classes)."""
    powers = p ** (1 / temperature)
    return powers / powers.sum(1, keepdim=True)


def random_propagation(x: Tensor, adjacency: SparseMatrix | Tensor, order: int) -> Tensor:
    """Mean of A^0 x .. A^order x (n, F), GRAND's augmentation of rows that were masked before."""
    total = x
    for _ in range(order):
        x = adjacency @ x
        total = total + x
    return total / (order + 1)
