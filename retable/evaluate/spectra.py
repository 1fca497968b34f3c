"""Measures of collapse in representations: similarity, effective rank, variance; (..., n, d) in, (...) out.

They compute in float64 whatever comes in, and cost O(n d) or O(n d^2): no n x n array.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_cosine_similarity(x: Tensor) -> Tensor:
    """Mean cosine between different rows of ``x`` (..., n, d): 1 when all point one way; 0 with a zero row.

    With unit rows u_i the sum over all pairs is ``||sum_i u_i||^2``, from which the n self pairs are taken.
    """
    n = _rows(x, "mean_cosine_similarity", 2)
    u = F.normalize(x.double(), dim=-1, eps=1e-12)
    pairs = u.sum(-2).square().sum(-1) - u.square().sum((-1, -2))
    return pairs / (n * (n - 1))


def effective_rank(x: Tensor) -> Tensor:
    """``exp(-sum_k p_k ln p_k)``, p_k = sigma_k / sum sigma, of ``x`` (..., n, d) (Roy & Vetterli, 2007).

    Zero singular values contribute nothing; a matrix of zeros has effective rank 0.
    """
    # Not from the d x d Gram matrix: that would halve the digits of the small singular values.
    sigma = torch.linalg.svdvals(x.double())
    total = sigma.sum(-1, keepdim=True)
    p = sigma / torch.where(total > 0, total, 1.0)
    return torch.where(total[..., 0] > 0, torch.special.entr(p).sum(-1).exp(), 0.0)


def feature_variance(x: Tensor) -> Tensor:
    """Unbiased variance across the features of each row of ``x`` (..., n, d), summed over rows.

    This is the variance of ContraNorm's feature figures; for collapse to one point see :func:`dispersion`.
    """
    return x.double().var(-1).sum(-1)


def dispersion(x: Tensor) -> Tensor:
    """``||x - mean row||_F^2`` of ``x`` (..., n, d): 0 when all rows are one point (complete collapse)."""
    _rows(x, "dispersion", 1)
    x = x.double()
    return (x - x.mean(-2, keepdim=True)).square().sum((-1, -2))


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values s of features (N, D), largest first, and how many directions they fill: 1 to D, by each measure.

    ``effective_rank`` exp of the entropy of s / sum s (Roy and Vetterli, 2007); ``entropy_rank`` the same of s^2;
    ``participation_ratio`` (sum s^2)^2 / sum s^4; ``stable_rank`` sum s^2 / s_1^2; ``directions_99`` how many hold 99 %
    of sum s^2.
    """

    singular_values: Tensor
    effective_rank: float
    entropy_rank: float
    participation_ratio: float
    stable_rank: float
    directions_99: int


def spectrum(z: Tensor, *, centre: bool = True) -> Spectrum:
    """The spectrum of features (N, D), centred or not."""
    z = z.double()
    s = torch.linalg.svdvals(z - z.mean(0) if centre else z)
    power = s.square()
    share = power / power.sum().clamp(min=torch.finfo(torch.float64).tiny)
    entropy_rank = torch.special.entr(share).sum().exp()
    p = s / (s.sum() + 1e-12)
    return Spectrum(
        singular_values=s,
        effective_rank=torch.special.entr(p).sum().exp().item(),
        entropy_rank=entropy_rank.item(),
        participation_ratio=1 / share.square().sum().item() if share.any() else 0.0,
        stable_rank=1 / share[0].item() if share.any() else 0.0,
        directions_99=int((share.cumsum(0) < 0.99).sum()) + 1,
    )


def pairwise_cosines(z: Tensor) -> dict[str, float]:
    """Of the rows of ``z`` (N, D): ``uniformity``, U-MAE's, is the mean squared cosine, self pairs included;
    ``uniformity_of_pairs`` leaves those out, and so does ``mean_cosine``.
    """
    n = len(z)
    unit = F.normalize(z.double(), dim=1, eps=1e-12)
    pairs = (unit.T @ unit).square().sum()
    itself = unit.square().sum(1).square().sum()
    return {
        "uniformity": (pairs / n**2).item(),
        "uniformity_of_pairs": ((pairs - itself) / (n * (n - 1))).item(),
        "mean_cosine": mean_cosine_similarity(z).item(),
    }


def _rows(x: Tensor, function: str, least: int) -> int:
    if x.dim() < 2 or x.shape[-2] < least:
        raise ValueError(f"{function} needs (..., n, d) with n >= {least}, got shape {tuple(x.shape)}")
    return x.shape[-2]
