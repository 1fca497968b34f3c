"""What contrastive learning does to features: alignment, uniformity, and how they follow edges and classes.

All take features (N, d), scale each row to unit length (zero rows stay zero) and compute in float64, without an
N x N array.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.evaluate.spectra import mean_cosine_similarity

COLLAPSED = 0.99
UNIFORMITY_ROWS = 1000


def alignment(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    """``mean_i ||u_i - v_i||^alpha`` over positive pairs, rows of ``x`` and ``y`` (Wang & Isola, ICML 2020)."""
    if x.shape != y.shape:
        raise ValueError(f"alignment needs pairs, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    return (_normalize_rows(x) - _normalize_rows(y)).norm(dim=1).pow(alpha).mean()


def uniformity(x: Tensor, t: float = 2.0) -> Tensor:
    """``log mean_{i<j} e^{-t ||u_i - u_j||^2}``, lower is more uniform; over at most 1,000 evenly spaced rows."""
    if len(x) < 2:
        raise ValueError("uniformity needs at least two rows")
    if len(x) > UNIFORMITY_ROWS:
        x = x[torch.linspace(0, len(x) - 1, UNIFORMITY_ROWS, device=x.device).round().long()]
    squared = torch.pdist(_normalize_rows(x)).square()
    return torch.logsumexp(-t * squared, 0) - math.log(len(squared))


def neighbour_cosine(x: Tensor, edges: Tensor) -> Tensor:
    """Mean cosine over edges (2, E), self loops left out; 0 for a graph without edges."""
    edges = edges[:, edges[0] != edges[1]]
    if edges.shape[1] == 0:
        return torch.zeros((), dtype=torch.float64, device=x.device)
    u = _normalize_rows(x)
    return (u[edges[0]] * u[edges[1]]).sum(1).mean()


def class_cosines(x: Tensor, y: Tensor) -> Tensor:
    """Mean cosine between the rows of each two classes (C, C), self pairs left out.

    ``y`` int64 (N,). NaN where a class has no pair: none of its rows, or a single one on the diagonal.
    """
    u, counts = _normalize_rows(x), torch.bincount(y).double()
    sums = u.new_zeros(len(counts), u.shape[1]).index_add_(0, y, u)
    own = u.new_zeros(len(counts)).index_add_(0, y, u.square().sum(1))
    pairs = counts[:, None] * counts - counts.diag()
    return torch.where(pairs > 0, (sums @ sums.t() - own.diag()) / pairs, torch.nan)


def within_and_between(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of :func:`class_cosines` on its diagonal and off it, classes weighing the same, pairless ones left out."""
    cosines = class_cosines(x, y)
    diagonal = torch.eye(len(cosines), dtype=torch.bool, device=x.device)
    return cosines[diagonal].nanmean(), cosines[~diagonal].nanmean()


def dirichlet_energy(x: Tensor, edges: Tensor) -> Tensor:
    """``tr(U^T (I - D^-1/2 (A + I) D^-1/2) U) / N`` for the unit rows U of ``x`` and undirected edges (2, E).

    By edges, ``sum_(i,j) ||u_i / sqrt(d_i) - u_j / sqrt(d_j)||^2 / 2N``; each edge stands in the list in both
    directions. 0 where neighbours agree (up to their degrees).
    """
    edges = edges[:, edges[0] != edges[1]]
    degree = torch.bincount(edges[1], minlength=len(x)).double() + 1
    scaled = _normalize_rows(x) / degree.sqrt()[:, None]
    return (scaled[edges[0]] - scaled[edges[1]]).square().sum() / (2 * len(x))


def is_collapsed(x: Tensor) -> bool:
    """Whether the mean cosine between rows exceeds 0.99; not so for rows that are all zero, which have no direction."""
    return bool(mean_cosine_similarity(x) > COLLAPSED)


def _normalize_rows(x: Tensor) -> Tensor:
    return F.normalize(x.double(), dim=-1, eps=1e-12)
