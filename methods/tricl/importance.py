"""What triCL's order of features is good for, and whether two seeds agree on it.

Ranks count from 1, the most important feature: "dims 1-20" of the paper are the first 20 columns of the order.
"""

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def importance_order(importance: Tensor) -> Tensor:
    """Columns from the most to the least important, int64 (D,); equal ones in the order of columns."""
    return importance.argsort(descending=True, stable=True)


def second_moment(z: Tensor) -> Tensor:
    """Mean square of each column of `z` (N, D): the order of features (D,) where a method learns none."""
    return z.square().mean(0)


def selected(z: Tensor, order: Tensor, which: str, k: int) -> Tensor:
    """The `k` columns of `z` (N, D) of first, middle or last rank: (N, k).

    Middle ranks are `D//2 - k//2 + 1` and on: 119 to 138 of 256 for k = 20. `ValueError` if there are fewer than k
    features or for another part of the order.
    """
    features = len(order)
    if not 1 <= k <= features:
        raise ValueError(f"{k} of {features} features were asked for; choose 1 to {features}")
    starts = {"first": 0, "middle": features // 2 - k // 2, "last": features - k}
    if which not in starts:
        raise ValueError(f"unknown part of the order {which!r}; valid: {', '.join(starts)}")
    return z[:, order[starts[which] : starts[which] + k]]


class Spread(NamedTuple):
    """How importance spreads: effective number of features, share of the upper tenth of them; scalars."""

    effective_number: Tensor
    share_of_top_tenth: Tensor


def spread(importance: Tensor) -> Spread:
    """`(sum S)^2 / sum S^2`, D when all are equal, and the share of the top 10 % in the sum, for S (D,) >= 0.

    The paper names no such measure: ours.
    """
    ordered = importance.sort(descending=True).values
    total = ordered.sum()
    return Spread(total.square() / ordered.square().sum(), ordered[: -(-len(ordered) // 10)].sum() / total)


def purity(z: Tensor, labels: Tensor, order: Tensor, top: int = 100) -> Tensor:
    """Share of the most frequent class among the `top` samples of largest value, by rank: (D,) in [0, 1].

    `z` (N, D), `labels` int64 (N,) from 0. Of equal values the first sample counts. It says whether a feature
    stands for one class; the paper's own measure could not be read: ours. `ValueError` for more samples than there
    are.
    """
    if not 1 <= top <= len(z):
        raise ValueError(f"purity of the {top} largest of {len(z)} samples; choose 1 to {len(z)}")
    best = z[:, order].argsort(dim=0, descending=True, stable=True)[:top]
    counts = torch.stack([labels[column].bincount().max() for column in best.T])
    return counts.double() / top


class Agreement(NamedTuple):
    """Mean similarity in [0, 1] of two runs' features: at equal ranks, and after the best matching; scalars."""

    at_equal_ranks: Tensor
    matched: Tensor


def agreement(z: Tensor, other: Tensor, *, centred: bool = True) -> Agreement:
    """Whether two runs found the same features: mean |correlation| of columns of `z` and `other` (N, r).

    Columns come in each run's order of importance. `centred=False` takes the cosine instead of the correlation.
    `matched` pairs the columns so that the mean is largest (Hungarian method), which forgives a wrong order. A
    constant column agrees with nothing. `ValueError` for different shapes.
    """
    if z.shape != other.shape or z.dim() != 2:
        raise ValueError(
            f"agreement needs two (N, r) of the same samples, got {tuple(z.shape)} and {tuple(other.shape)}"
        )
    z, other = (_unit_columns(x, centred) for x in (z, other))
    similarity = (z.T @ other).abs()
    pairs = linear_sum_assignment(similarity.cpu().numpy(), maximize=True)
    matched = similarity[tuple(torch.from_numpy(index) for index in pairs)]
    return Agreement(similarity.diagonal().mean(), matched.mean())


def _unit_columns(x: Tensor, centred: bool) -> Tensor:
    x = x.double()
    x = x - x.mean(0) if centred else x
    return torch.nn.functional.normalize(x, dim=0)
