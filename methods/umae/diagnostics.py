"""Measures of dimensional collapse: the spectrum of features (N, D) and their pairwise cosines, in float64."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.evaluate.spectra import mean_cosine_similarity


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values s (largest first) and measures of how many directions they fill, each between 1 and D.

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


def geometry(z: Tensor) -> dict[str, float]:
    """``uniformity`` (mean squared cosine, self pairs included; ``_of_pairs`` without) and ``mean_cosine`` of pairs."""
    n = len(z)
    unit = F.normalize(z.double(), dim=1, eps=1e-12)
    pairs = (unit.T @ unit).square().sum()
    itself = unit.square().sum(1).square().sum()
    return {
        "uniformity": (pairs / n**2).item(),
        "uniformity_of_pairs": ((pairs - itself) / (n * (n - 1))).item(),
        "mean_cosine": mean_cosine_similarity(z).item(),
    }
