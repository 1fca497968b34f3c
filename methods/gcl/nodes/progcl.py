"""ProGCL (Xia et al., ICML 2022): negatives weighted by how likely they are true ones, from a Beta mixture.

Cosines between views, mapped to (cos + 1) / 2, follow a mixture of two Beta distributions; fitted once, at a given
epoch, it gives each pair (i, j) the weight ``B_ij = p(component 0 | s_ij) s_ij``, s = (cos + 1) / 2, kept from then on.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from retable.nn.rows import normalize_rows

from ..losses import node_losses, weighted_losses
from ..settings import NodeSettings
from .gca import GCA
from .task import NodeTask

_TINY = 1e-12
FIT_COLUMNS = 100


class ProGCL(GCA):
    """GCA whose negatives are weighted from epoch ``weights_from`` on, by a Beta mixture fitted there once."""

    trainer_quirks = False
    fitted: Tensor
    fit_views: Tensor
    fit_columns: Tensor

    def __init__(self, task: NodeTask, settings: NodeSettings) -> None:
        super().__init__(task, settings)
        nodes, width = len(task.y), settings.hidden
        # The weights follow from these, so a saved state needs no N x N array.
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("fit_views", torch.zeros(2, nodes, width))
        self.register_buffer("fit_columns", torch.zeros(min(FIT_COLUMNS, nodes), dtype=torch.long))
        self._weights: Tensor | None = None

    def loss(self, epoch: int) -> Tensor:
        s = self.settings
        if epoch < s.weights_from:
            return super().loss(epoch)
        h1, h2, _ = self.views()
        if s.terms == "no-negatives":
            # The authors' code flips the sign here and pushes the pairs apart.
            sign = -1 if s.official_quirks else 1
            return sign * node_losses(h1, h2, s.tau, s.terms).mean()
        weights = self.pair_weights(h1, h2)
        both = [weighted_losses(a, b, weights, s.tau, s.terms) for a, b in ((h1, h2), (h2, h1))]
        return torch.stack(both).mean()

    def pair_weights(self, h1: Tensor, h2: Tensor) -> Tensor:
        """B (N, N), from the views of the first epoch that asks for it, anchors in view 2 as in the authors' code."""
        if not self.fitted:
            self.fit_views = torch.stack([h2, h1]).detach()
            self.fit_columns = torch.randperm(len(h1), device=h1.device)[: len(self.fit_columns)]
            self.fitted = torch.ones_like(self.fitted)
            self._weights = None
        if self._weights is None:
            first, second = self.fit_views
            self._weights = fit_pair_weights(first, second, self.fit_columns, self.settings.weight_init)
        return self._weights


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
        cosines = normalize_rows(h1) @ normalize_rows(h2).t()
        mixture = BetaMixture.fit((cosines[:, columns] + 1) / 2, weight_init, iterations)
        return pair_weights(cosines, mixture)
