"""Features through dropout and times weights: the first layer of a network whose features are dense and many.

On a processor ``F.dropout`` draws a Bernoulli number for each entry in three times what a uniform one takes, and the
gradient of ``x @ weight`` is ``x^T grad``, which costs eight times ``(grad^T x)^T`` where weights are narrow.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.nn.graph_layers import Features
from retable.nn.sparse import SparseMatrix


def dropped_product(x: Features, weight: Tensor, p: float, training: bool) -> Tensor:
    """``dropout(x) @ weight`` (n, out) of x (n, in) with rate ``p`` in [0, 1), by torch's global generator.

    A dense ``x`` that wants a gradient gets it, in the usual form.
    """
    p = p if training else 0.0
    if isinstance(x, SparseMatrix):
        return x.dropout(p) @ weight
    if x.requires_grad:
        return F.dropout(x, p) @ weight
    if p == 0:
        return _Product.apply(x, weight)
    return _Product.apply(torch.rand_like(x).ge_(p).mul_(x), weight) / (1 - p)


class _Product(torch.autograd.Function):
    """``x @ weight``, differentiable in ``weight`` alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        (x,) = ctx.saved_tensors
        return None, (grad.T @ x).T
