"""Nearest neighbours of frozen features: weighted k-NN classification and image retrieval by number of dimensions.

Similarities are computed for blocks of queries, so memory is that of a block, and equal ones are ranked by index: the
result does not depend on how a device breaks ties.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Entries of one block of similarities (64 MB in float32).
_BLOCK = 1 << 24


def weighted_knn(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    *,
    k: int = 20,
    metric: str = "cosine",
    temperature: float = 0.07,
    epsilon: float = 1e-5,
) -> Tensor:
    """Votes (M, C) of the ``k`` nearest of ``train`` (N, d) for each row of ``test`` (M, d), C the largest label + 1.

    ``metric="cosine"``: a neighbour of similarity s votes with ``exp(s / temperature)`` (Wu et al., 2018,
    https://arxiv.org/abs/1805.01978); ``"euclidean"``: with ``1 / (distance + epsilon)`` (solo-learn's other form).
    ``train_labels`` int64 (N,). With fewer than ``k`` training rows all of them vote. ``ValueError`` for shapes that do
    not fit, an unknown metric, ``k`` below 1 or a negative label (an unlabelled row: take those out first).
    """
    if train.dim() != 2 or test.dim() != 2 or train.shape[1] != test.shape[1]:
        raise ValueError(
            f"weighted_knn needs train (N, d) and test (M, d), got {tuple(train.shape)} and {tuple(test.shape)}"
        )
    _check_labels("weighted_knn", train, train_labels)
    if k < 1:
        raise ValueError(f"weighted_knn: k must be 1 or more, got {k}")
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"weighted_knn: unknown metric {metric!r}; valid: cosine, euclidean")
    k = min(k, len(train))
    if metric == "cosine":
        train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    votes = train.new_zeros(len(test), int(train_labels.max()) + 1)
    for rows in _blocks(len(test), len(train)):
        if metric == "cosine":
            similarity = test[rows] @ train.T
        else:
            # The direct form: distances of near-equal rows decide the vote and must not come from a cancellation.
            distance = torch.cdist(test[rows], train, compute_mode="donot_use_mm_for_euclid_dist")
            similarity = 1 / (distance + epsilon)
        value, index = largest(similarity, k)
        weight = (value / temperature).exp() if metric == "cosine" else value
        votes[rows].scatter_add_(1, train_labels[index], weight)
    return votes


def vote_accuracy(votes: Tensor, labels: Tensor, top: int = 1) -> float:
    """Percent of rows whose label (M,) is among the ``top`` classes with most votes (M, C); ties by class number."""
    best = votes.argsort(dim=1, descending=True, stable=True)[:, :top]
    return 100 * (best == labels[:, None]).any(1).double().mean().item()


def voted(votes: Tensor) -> Tensor:
    """The class (M,) with most votes of each row (M, C), the lowest of equals."""
    return votes.argsort(dim=1, descending=True, stable=True)[:, 0]


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Scores by number of dimensions, float64 (len(dims),) each, in [0, 1].

    ``precision``: share of the query's class among the nearest, mean over queries. ``average_precision``: the mean over
    queries of the mean precision at the ranks of hits (0 without a hit), the usual mAP at that depth.
    """

    precision: Tensor
    average_precision: Tensor


def retrieval(x: Tensor, labels: Tensor, order: Tensor, dims: Sequence[int], *, neighbours: int = 10) -> Retrieval:
    """Every row of ``x`` (N, d) queries all others by squared Euclidean distance on the first k columns of ``order``.

    ``order`` int64, columns of ``x``, the first to be used first; ``dims`` the increasing values of k. Columns are
    used as they come: normalise rows before, on all columns, where a protocol says so. One pass over ``order`` serves
    all k, since distances add up over columns. ``labels`` int64 (N,). ``ValueError`` for shapes that do not fit, k that
    do not increase within 1 to len(order), or fewer than ``neighbours`` + 1 rows.
    """
    _check_labels("retrieval", x, labels)
    if list(dims) != sorted(set(dims)) or not dims or dims[0] < 1 or dims[-1] > len(order):
        raise ValueError(
            f"retrieval: dims must increase within 1 to {len(order)} (the order's length), got {list(dims)}"
        )
    if not 1 <= neighbours < len(x):
        raise ValueError(f"retrieval: {neighbours} neighbours of each of {len(x)} rows; need 1 to {len(x) - 1}")
    columns = x[:, order]
    hits = torch.zeros(len(dims), neighbours, dtype=torch.float64, device=x.device)
    precise = torch.zeros(len(dims), dtype=torch.float64, device=x.device)
    ranks = torch.arange(1, neighbours + 1, dtype=torch.float64, device=x.device)
    for rows in _blocks(len(x), len(x)):
        queries, size = columns[rows], rows.stop - rows.start
        # -|a - b|^2 without |a|^2, which is the same for all candidates of a query.
        closeness = x.new_zeros(size, len(x))
        closeness[torch.arange(size), torch.arange(rows.start, rows.stop)] = -torch.inf
        for number, (start, stop) in enumerate(zip((0, *dims), dims, strict=False)):
            keys = columns[:, start:stop]
            closeness.addmm_(queries[:, start:stop], keys.T, alpha=2).sub_(keys.square().sum(1))
            found = (labels[largest(closeness, neighbours)[1]] == labels[rows][:, None]).double()
            hits[number] += found.sum(0)
            at_hits = found.cumsum(1) / ranks * found
            precise[number] += (at_hits.sum(1) / found.sum(1).clamp(min=1)).sum()
    return Retrieval((hits.sum(1) / (neighbours * len(x))).cpu(), (precise / len(x)).cpu())


def largest(score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and indices (m, k) of the largest entries of each row of ``score`` (m, n); equal ones by index.

    ``torch.topk`` leaves open which of equal entries it takes. Only rows where that matters are sorted in full.
    """
    value, index = score.topk(min(k + 1, score.shape[1]), dim=1)
    if value.shape[1] > k:
        tied = (value[:, k - 1] == value[:, k]).nonzero().squeeze(1)
        value, index = value[:, :k].clone(), index[:, :k].clone()
        if len(tied):
            index[tied] = score[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
            value[tied] = score[tied].gather(1, index[tied])
    index, by_index = index.sort(dim=1)
    value, by_value = value.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    return value, index.gather(1, by_value)


def _blocks(queries: int, keys: int) -> list[slice]:
    size = max(1, _BLOCK // max(keys, 1))
    return [slice(start, min(start + size, queries)) for start in range(0, queries, size)]


def _check_labels(function: str, x: Tensor, labels: Tensor) -> None:
    if x.dim() != 2 or labels.shape != x.shape[:1]:
        raise ValueError(
            f"{function} needs features (N, d) with a label each, got {tuple(x.shape)} and labels {tuple(labels.shape)}"
        )
    if len(labels) and int(labels.min()) < 0:
        raise ValueError(f"{function}: a label is negative (unlabelled); leave those rows out")
