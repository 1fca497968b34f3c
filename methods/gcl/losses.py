"""The losses of graph contrastive learning, each with one of its two terms removed: the paper's experiment.

Guo et al., *Architecture Matters*, NeurIPS 2023, https://arxiv.org/abs/2311.02687. A contrastive loss pulls the two
views of a sample together and pushes different samples apart, ``push - pull``. The paper asks what is left when one of
the terms goes. Everywhere in this folder ``terms`` names what is kept:

    contrast        push - pull     both terms
    no-positives    push            the negatives alone (uniformity)
    no-negatives         - pull     the positives alone (alignment)

With s the cosine over the temperature tau, i the anchor, u and v two views of all nodes, x and x' of all graphs:

    loss                 method           pull                      push
    node_losses          GRACE, GCA       s(u_i, v_i)               log (sum_{j != i} e^s(u_i,u_j) + sum_j e^s(u_i,v_j))
    weighted_losses      ProGCL           s(u_i, v_i)               the same, negatives weighted by a Beta mixture
    discrimination_loss  DGI, MVGRL       -softplus(-f(h_i, c))     softplus(f(h~_i, c)), shuffled nodes h~, summary c
    graphcl_loss         GraphCL, JOAO    s(x_i, x'_i)              log sum_{j != i} e^s(x_i,x'_j)
    symmetric_loss       AD-GCL, AutoGCL  s(x_i, x'_i)              the mean of GraphCL's over both directions
    infograph_loss       InfoGraph        -softplus(-h_i . x_g(i))  softplus(h_i . x_g), node i against other graphs g

DGI's and MVGRL's loss is the mean of its terms, not their sum. The positive pair is a candidate in GRACE's sum and not
in GraphCL's: both follow the authors' code. BGRL (`nodes.bgrl`) has no negatives to remove; SimCLR's loss on images is
in `vision`.

Formulas: the authors' code, https://github.com/PKU-ML/ArchitectureMattersGCL.
"""

import math
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.nn.kernels import kernel_row_sums
from retable.nn.rows import normalize_rows

from .settings import Terms

TERMS: tuple[Terms, ...] = get_args(Terms)
# e^(1/tau) times the number of candidates, and its inverse, stay inside float32's range: cosines need no max-shift.
SMALLEST_TAU = 0.02


def kept(pull: Tensor, push: Tensor, terms: Terms) -> Tensor:
    """``push - pull`` with one of its terms removed, or none."""
    return {"contrast": push - pull, "no-positives": push, "no-negatives": -pull}[terms]


# Nodes ----------------------------------------------------------------------------------------------------------------


def node_losses(
    h1: Tensor, h2: Tensor, tau: float, terms: Terms = "contrast", neighbours: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Loss of each node (N,), the mean of its two directions; GRACE minimises the mean of it, GCA's code the sum."""
    first, second = directed_losses(h1, h2, tau, terms, neighbours)
    return (first + second) / 2


def directed_losses(
    h1: Tensor, h2: Tensor, tau: float, terms: Terms = "contrast", neighbours: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Losses (N,) with the anchors in view 1 and in view 2, from ``h1``, ``h2`` (N, d), not yet of unit length.

    ``neighbours``: the two views' edge lists (2, E), anchor above neighbour. The anchor's neighbours, itself included,
    are then its positives: ``pull = log (1/N) sum_{j in N(i)} e^s(u_i, v_j)``. ``h2 is h1`` (no augmentation) costs a
    quarter. ``ValueError`` for unknown terms, for neighbours where a term is removed, for tau below ``SMALLEST_TAU``
    and where the views differ in shape.
    """
    _check(terms)
    if neighbours is not None and terms != "contrast":
        raise ValueError(f"neighbours are positives of the loss with both terms, not of {terms!r}")
    if tau < SMALLEST_TAU:
        raise ValueError(f"tau must be at least {SMALLEST_TAU}, got {tau}: the exponentials would overflow")
    if h1.shape != h2.shape or h1.dim() != 2 or len(h1) == 0:
        raise ValueError(
            f"two views of the same nodes have the same shape (N, d), got {tuple(h1.shape)}, {tuple(h2.shape)}"
        )
    u = normalize_rows(h1)
    v = u if h2 is h1 else normalize_rows(h2)
    pull = (u * v).sum(1) / tau
    if terms == "no-negatives":  # without the sums over all pairs
        return -pull, -pull
    first, second = (total.log() for total in denominators(u, v, tau))
    if neighbours is not None:
        return first - neighbour_pull(u, v, neighbours[0], tau), second - neighbour_pull(v, u, neighbours[1], tau)
    return kept(pull, first, terms), kept(pull, second, terms)


def sampled_losses(h1: Tensor, h2: Tensor, tau: float, terms: Terms, nodes: tuple[Tensor, Tensor]) -> Tensor:
    """``node_losses`` among n sampled nodes (n,), for graphs whose pairs are too many (the paper's ogbn-arxiv form).

    ``nodes``: the sampled nodes, int64 (n,), of the direction 1 -> 2 and of 2 -> 1.
    """
    there, back = nodes
    first, second = directed_losses(h1[there], h2[there], tau, terms)
    if back is not there:
        second = directed_losses(h1[back], h2[back], tau, terms)[1]
    return (first + second) / 2


def denominators(u: Tensor, v: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """``e^push`` of each node (N,), anchors in view 1 and in view 2, from unit rows (N, d).

    With both views stacked, w = [u; v], both directions are the row sums of one symmetric kernel without its diagonal,
    so each pair is computed once.
    """
    if u is v:
        total = 2 * kernel_row_sums(u / tau**0.5) + (u.square().sum(1) / tau).exp()
        return total, total
    total = kernel_row_sums(torch.cat([u, v]) / tau**0.5)
    return total[: len(u)], total[len(u) :]


def neighbour_pull(u: Tensor, v: Tensor, edges: Tensor, tau: float) -> Tensor:
    """``log (1/N) sum_{j in N(i) and i} e^{u_i . v_j / tau}`` (N,); each distinct edge (2, E) counts once."""
    n = len(u)
    loops = torch.arange(n, device=u.device)
    keys = torch.unique(torch.cat([edges[0] * n + edges[1], loops * (n + 1)]))
    anchor, neighbour = keys // n, keys % n
    kernel = ((u[anchor] * v[neighbour]).sum(1) / tau).exp()
    return (u.new_zeros(n).index_add(0, anchor, kernel) / n).log()


def weighted_losses(h1: Tensor, h2: Tensor, weights: Tensor, tau: float, terms: Terms = "contrast") -> Tensor:
    """ProGCL's losses (N,), anchors in view 1, with the negatives weighted by B (N, N), ``weights``.

    ``push = log (e^s(u_i, v_i) + sum_{j != i} (e^s(u_i, v_j) + e^s(u_i, u_j)) B_ij / mean_j B_ij)``. ``ValueError``
    without negatives, where there is nothing to weight.
    """
    if terms not in ("contrast", "no-positives"):
        raise ValueError(f"the terms {terms!r} have no weighted negatives: choose contrast or no-positives")
    u, v = normalize_rows(h1), normalize_rows(h2)
    relative = weights * (len(u) - 1) / weights.sum(1, keepdim=True)
    negatives = (((u @ v.t()) / tau).exp() * relative).sum(1) + (((u @ u.t()) / tau).exp() * relative).sum(1)
    pull = (u * v).sum(1) / tau
    return kept(pull, (pull.exp() + negatives).log(), terms)


def discrimination_loss(real: Tensor, fake: Tensor, terms: Terms = "contrast") -> Tensor:
    """Binary cross-entropy of the scores (n,) of real and of shuffled nodes: the mean of both terms, or one of them."""
    _check(terms)
    positive, negative = F.softplus(-real).mean(), F.softplus(fake).mean()
    return {"contrast": (positive + negative) / 2, "no-positives": negative, "no-negatives": positive}[terms]


# Graphs ---------------------------------------------------------------------------------------------------------------


def graphcl_loss(x: Tensor, x_aug: Tensor, tau: float, terms: Terms = "contrast") -> Tensor:
    """Mean over the B graphs of a batch, first views ``x`` against second views ``x_aug``, (B, d) projections.

    The positive is not among the negatives, so the value can be below zero. ``ValueError`` for one graph, which has no
    negatives, unless they are removed.
    """
    return _graph_loss(x, x_aug, tau, terms, directions=(1,))


def symmetric_loss(x: Tensor, x_aug: Tensor, tau: float, terms: Terms = "contrast") -> Tensor:
    """The mean of :func:`graphcl_loss` in both directions."""
    return _graph_loss(x, x_aug, tau, terms, directions=(1, 0))


def infograph_loss(local: Tensor, pooled: Tensor, node_graph: Tensor, terms: Terms = "contrast") -> Tensor:
    """Nodes (``local``, (N, d)) with their own graph (``pooled``, (G, d)) against all other graphs, a scalar.

    Jensen-Shannon estimate with ``R = local @ pooled.T`` and g(i) the graph of node i, ``node_graph`` (N,):

        pull = -mean_i softplus(-R_i,g(i)) + log 2        push = mean_{i, g != g(i)} softplus(R_ig) - log 2

    The negatives are the sum over all pairs less the positives, so no (N, G) mask is built. A single graph has
    no negatives: their term is 0.
    """
    _check(terms)
    scores = local @ pooled.T
    positives = scores.gather(1, node_graph[:, None]).squeeze(1)
    loss = scores.new_zeros(())
    if terms != "no-positives":
        loss = loss + F.softplus(-positives).mean() - math.log(2)
    if terms != "no-negatives" and len(pooled) > 1:
        others = F.softplus(scores).sum() - F.softplus(positives).sum()
        loss = loss + others / (len(local) * (len(pooled) - 1)) - math.log(2)
    return loss


def cosine_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Cosines of all rows of x (B, d) with all rows of y (B, d): (B, B). A zero row has cosine 0."""
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def _graph_loss(x: Tensor, x_aug: Tensor, tau: float, terms: Terms, directions: tuple[int, ...]) -> Tensor:
    _check(terms)
    if terms != "no-negatives" and len(x) < 2:
        raise ValueError(f"the {terms} loss of {len(x)} graph has no negatives: give it two graphs or more")
    logits = cosine_similarity(x, x_aug) / tau
    pull = logits.diagonal().mean()
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    others = logits.masked_fill(itself, -math.inf)
    push = torch.stack([others.logsumexp(direction).mean() for direction in directions]).mean()
    return kept(pull, push, terms)


def _check(terms: str) -> None:
    if terms not in TERMS:
        raise ValueError(f"unknown terms {terms!r} of a loss: choose one of {', '.join(TERMS)}")
