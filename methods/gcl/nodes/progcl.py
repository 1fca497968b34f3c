"""ProGCL (Xia et al., ICML 2022): negatives weighted by how likely they are true ones, from a Beta mixture.

Cosines between views, mapped to (cos + 1) / 2, follow a mixture of two Beta distributions; fitted once, at a given
epoch, it gives each pair (i, j) the weight ``B_ij = p(component 0 | s_ij) s_ij``, s = (cos + 1) / 2, kept from then on.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from retable.nn.rows import unit

_TINY = 1e-12
FIT_COLUMNS = 100


@dataclass(frozen=True, eq=False)
class BetaMixture:
    """Two Beta distributions: ``alpha``, ``beta`` and mixing ``weight``, each float64 (2,)."""

    alpha: Tensor
    beta: Tensor
    weight: Tensor

    @classmethod
    def fit(cls, values: Tensor, weight_init: float, iterations: int = 10) -> "BetaMixture":
        """Expectation maximisation on values in [0, 1] of any shape, the M-step by weighted moments.

        Component 1 starts with the mixing weight ``weight_init``; its beta stays at least 1, so that it does not
        grow a second peak.
        """
        x = values.double().flatten().clamp(_TINY, 1 - _TINY)
        start = x.new_tensor([1.0, 2.0])
        mixture = cls(start, start.flip(0), start.new_tensor([1 - weight_init, weight_init]))
        for _ in range(iterations):
            share = mixture.posteriors(x)
            total = share.sum(1)
            mean = (share * x).sum(1) / total
            variance = (share * (x - mean[:, None]).square()).sum(1) / total
            alpha = mean * (mean * (1 - mean) / variance - 1)
            beta = alpha * (1 - mean) / mean
            beta[1] = torch.where(beta[1] < 1, 1.01, beta[1])
            mixture = cls(alpha, beta, total / total.sum())
        return mixture

    def posteriors(self, x: Tensor) -> Tensor:
        """Probability of each component (2, *shape) for values of any shape, float64."""
        x = x.double().clamp(_TINY, 1 - _TINY)
        log_norm = torch.lgamma(self.alpha) + torch.lgamma(self.beta) - torch.lgamma(self.alpha + self.beta)
        joint = torch.stack([
            w * ((a - 1) * x.log() + (b - 1) * (-x).log1p() - norm).exp()
            for w, a, b, norm in zip(self.weight, self.alpha, self.beta, log_norm, strict=True)
        ])  # fmt: skip
        joint = joint.clamp(min=_TINY)
        return joint / joint.sum(0)


def pair_weights(cosines: Tensor, mixture: BetaMixture) -> Tensor:
    """B (N, N) for the cosines (N, N) between views, zero on the diagonal; without gradient."""
    s = (cosines.detach() + 1) / 2
    return (mixture.posteriors(s)[0] * s).to(cosines.dtype).fill_diagonal_(0)


def fit_pair_weights(h1: Tensor, h2: Tensor, columns: Tensor, weight_init: float, iterations: int = 10) -> Tensor:
    """B (N, N) of two views (N, d), the mixture fitted on the cosines of all anchors with the nodes ``columns``."""
    with torch.no_grad():
        cosines = unit(h1) @ unit(h2).t()
        mixture = BetaMixture.fit((cosines[:, columns] + 1) / 2, weight_init, iterations)
        return pair_weights(cosines, mixture)


def weighted_losses(h1: Tensor, h2: Tensor, weights: Tensor, tau: float, loss: str = "contrast") -> Tensor:
    """Directed losses (N,), anchors in view 1, with the negatives weighted by B (N, N).

    ``p_i / (p_i + n_i)`` with ``n_i = sum_{j != i} (e^{u_i . v_j / tau} + e^{u_i . u_j / tau}) B_ij / mean_j B_ij``:
    "contrast" is its negative logarithm, "no-positives" the logarithm of the denominator.
    """
    if loss not in ("contrast", "no-positives"):
        raise ValueError(f"the loss {loss!r} has no weighted negatives: choose contrast or no-positives")
    u, v = unit(h1), unit(h2)
    relative = weights * (len(u) - 1) / weights.sum(1, keepdim=True)
    negatives = (((u @ v.t()) / tau).exp() * relative).sum(1) + (((u @ u.t()) / tau).exp() * relative).sum(1)
    pull = (u * v).sum(1) / tau
    total = (pull.exp() + negatives).log()
    return total - pull if loss == "contrast" else total
