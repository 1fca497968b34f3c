"""Random views of a graph: edges dropped, feature columns zeroed, or noise on the representations."""

from dataclasses import replace

import torch
from torch import Tensor

from .encoders import View, gcn_propagation

Probability = float | Tensor


def drop(view: View, edge_p: Probability, column_p: Probability) -> View:
    """A view with each directed edge and each feature column dropped by chance; nothing is rescaled.

    ``edge_p``: one probability or one an edge (E,); ``column_p``: one or one a column (F,). Draws from torch's global
    stream, edges first, and draws nothing for a plain probability of 0. At 1 no edge is left, which is legal.
    """
    device = view.edges.device
    edges, propagate, columns = view.edges, view.propagate, view.columns
    if not _is_zero(edge_p):
        edges = edges[:, kept(torch.rand(edges.shape[1], device=device), edge_p)]
        propagate = gcn_propagation(edges, view.x.shape[0], propagate.csr.dtype)
    if not _is_zero(column_p):
        keep = kept(torch.rand(view.x.shape[1], device=device), column_p).to(propagate.csr.dtype)
        columns = keep if columns is None else columns * keep
    return replace(view, edges=edges, propagate=propagate, columns=columns)


def kept(uniform: Tensor, p: Probability) -> Tensor:
    """Which of the draws, uniform in [0, 1), survive dropping with probability ``p``."""
    return uniform >= p


def add_noise(z: Tensor, noise: Tensor, variance: float) -> Tensor:
    """``z + sqrt(variance) * noise`` for standard normal noise of z's shape (N, d)."""
    return z + variance**0.5 * noise


def _is_zero(p: Probability) -> bool:
    return isinstance(p, float | int) and p == 0
