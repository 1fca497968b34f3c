"""The losses of graph classification, each with a half removed: the paper's experiment in one file.

A loss has two parts. *Positives* pull two views of one graph together, *negatives* push different graphs
apart. `PARTS` names what is kept: ``contrast`` both, ``no-positives`` the push alone (uniformity),
``no-negatives`` the pull alone (alignment).

Source of the formulas: the authors' code, https://github.com/PKU-ML/ArchitectureMattersGCL; GraphCL (You et
al., 2020, https://arxiv.org/abs/2010.13902), AD-GCL (Suresh et al., 2021, https://arxiv.org/abs/2106.05819),
AutoGCL (Yin et al., 2022, https://arxiv.org/abs/2109.10259), InfoGraph (Sun et al., 2020,
https://arxiv.org/abs/1908.01000).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PARTS = ("contrast", "no-positives", "no-negatives")


def graphcl_loss(x: Tensor, x_aug: Tensor, tau: float, part: str = "contrast") -> Tensor:
    """GraphCL and JOAO: each graph's first view against the second views of the batch.

    With ``S_ij = cos(x_i, x'_j) / tau`` and i over the B graphs:

    - contrast: ``mean_i [log sum_{j != i} exp S_ij - S_ii]``
    - no-positives: ``mean_i log sum_{j != i} exp S_ij``
    - no-negatives: ``-mean_i S_ii``

    The positive is not among the negatives, so the value can be below zero. x, x_aug: (B, d) projections.
    Raises ValueError for one graph, which has no negatives, unless they are left out.
    """
    _check(x, part)
    logits = cosine_similarity(x, x_aug) / tau
    return _pull_and_push(logits, part, directions=(1,))


def symmetric_loss(x: Tensor, x_aug: Tensor, tau: float, part: str = "contrast") -> Tensor:
    """AD-GCL (tau 0.2) and AutoGCL: the mean of GraphCL's loss in both directions.

    x, x_aug: (B, d) projections. Raises ValueError for one graph, which has no negatives, unless they are
    left out.
    """
    _check(x, part)
    logits = cosine_similarity(x, x_aug) / tau
    return _pull_and_push(logits, part, directions=(1, 0))


def infograph_loss(local: Tensor, pooled: Tensor, node_graph: Tensor, part: str = "contrast") -> Tensor:
    """InfoGraph: a node (local, (N, d)) with its own graph (pooled, (G, d)) against all other graphs.

    Jensen-Shannon estimate with ``R = local @ pooled.T`` and g(i) the graph of node i, ``node_graph`` (N,):

    - no-negatives: ``mean_i softplus(-R_i,g(i)) - log 2``
    - no-positives: ``mean_{i, g != g(i)} softplus(R_ig) - log 2``
    - contrast: their sum

    The negatives are the sum over all pairs less the positives, so no (N, G) mask is built. A single graph has
    no negatives: their part is 0.
    """
    _check_part(part)
    scores = local @ pooled.T
    positives = scores.gather(1, node_graph[:, None]).squeeze(1)
    loss = scores.new_zeros(())
    if part != "no-positives":
        loss = loss + F.softplus(-positives).mean() - math.log(2)
    if part != "no-negatives" and len(pooled) > 1:
        others = F.softplus(scores).sum() - F.softplus(positives).sum()
        loss = loss + others / (len(local) * (len(pooled) - 1)) - math.log(2)
    return loss


def cosine_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Cosines of all rows of x (B, d) with all rows of y (B, d): (B, B). A zero row has cosine 0."""
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def _pull_and_push(logits: Tensor, part: str, directions: tuple[int, ...]) -> Tensor:
    loss = logits.new_zeros(())
    if part != "no-positives":
        loss = loss - logits.diagonal().mean()
    if part != "no-negatives":
        itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        others = logits.masked_fill(itself, -math.inf)
        push = [others.logsumexp(dim).mean() for dim in directions]
        loss = loss + torch.stack(push).mean()
    return loss


def _check(x: Tensor, part: str) -> None:
    _check_part(part)
    if part != "no-negatives" and len(x) < 2:
        raise ValueError(f"the {part} loss of {len(x)} graph has no negatives: give it two graphs or more")


def _check_part(part: str) -> None:
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r} of a loss; valid: {', '.join(PARTS)}")
