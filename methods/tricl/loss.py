"""triCL's loss (arXiv 2310.18904): a pair has the score `z^T S z'`, and features are decorrelated.

`S = diag(s_1, .., s_D) > 0` is learned: one number of importance for each feature. A two-factor loss knows features
only up to a rotation; S and `E[z z^T] = I` leave nothing but their signs open, and sort them by s.

`paper` forms follow the theory. The others compute what the authors' code does: rows of unit length, and S on the
anchors of view 1 only. Two views of B images are stacked as in `baselines.py`, `z` (N, D) with N = 2B.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.nt_xent import nt_xent_stacked

from .baselines import repeated_ids, spectral, spectral_terms


class Importance(nn.Module):
    """`S = softplus(raw)` (D,), raw = 0.1 N(0, 1) at first: S starts near 0.69 and stays above 0.

    With `learned=False` raw has no gradient. The authors' code gives raw a gradient but no optimiser, so S keeps its
    random initialisation: that is mode `released`.
    """

    def __init__(self, dim: int, *, learned: bool) -> None:
        super().__init__()
        self.raw = nn.Parameter(0.1 * torch.randn(dim), requires_grad=learned)

    def forward(self) -> Tensor:
        """S (D,)."""
        return F.softplus(self.raw)


class TriLoss(NamedTuple):
    """The contrastive part and the decorrelation penalty, scalars, and the penalty's weight."""

    contrast: Tensor
    decorrelation: Tensor
    tau: float

    @property
    def total(self) -> Tensor:
        """`contrast + tau * decorrelation`, a scalar."""
        return self.contrast + self.tau * self.decorrelation


def tri_scl_paper(z: Tensor, s: Tensor, tau: float = 1.0) -> TriLoss:
    """`-2 E[z^T S z+] + E[(z^T S z-)^2]` with the penalty `||E[z z^T] - I||_F^2`: the three-factor objective.

    Pairs are taken across views, rows are not normalised. Up to a constant it is `||A - F S F^T||^2` of the normalised
    augmentation graph A (`factorisation.py`), whose minimiser is unique up to signs where eigenvalues differ.
    """
    repeated_ids(z, None)
    z1, z2 = z.chunk(2)
    positive, negative = spectral_terms(z1 * s, z2)
    return TriLoss(positive + negative, off_identity(z.T @ z / len(z)).sum(), tau)


def tri_simclr_paper(z: Tensor, s: Tensor, temperature: float, tau: float = 1.0) -> TriLoss:
    """NT-Xent with logits `z_i^T S z_j / temperature` for the anchors of both views; penalty of the theory."""
    repeated_ids(z, None)
    contrast = nt_xent_stacked(z * s, z, temperature)
    return TriLoss(contrast, off_identity(z.T @ z / len(z)).sum(), tau)


def tri_scl(z: Tensor, s: Tensor, tau: float = 1.0, ids: Tensor | None = None) -> TriLoss:
    """SCL with importance as released: :func:`baselines.scl` at temperature 1, S on the anchors of view 1.

    The penalty is the mean square of `z^T z - I` without a division by N: about N^2 times that of :func:`tri_simclr`.
    """
    z = F.normalize(z)
    gram = z.T @ z
    contrast = spectral(_scaled_first_view(z, s), z, gram, ids)
    return TriLoss(contrast, off_identity(gram).mean(), tau)


def tri_simclr(z: Tensor, s: Tensor, temperature: float, tau: float = 1.0, ids: Tensor | None = None) -> TriLoss:
    """NT-Xent with importance as released: S on the anchors of view 1.

    The penalty, the mean square of `z^T z / N - I`, cannot come near 0: the trace of `z^T z / N` is 1 and not D.
    """
    z = F.normalize(z)
    contrast = nt_xent_stacked(_scaled_first_view(z, s), z, temperature, repeated_ids(z, ids))
    return TriLoss(contrast, off_identity(z.T @ z / len(z)).mean(), tau)


def off_identity(c: Tensor) -> Tensor:
    """Squared entries of `c - I` for `c` (D, D); their sum is the squared Frobenius norm."""
    return (c - torch.eye(len(c), dtype=c.dtype, device=c.device)).square()


def _scaled_first_view(z: Tensor, s: Tensor) -> Tensor:
    first, second = z.chunk(2)
    return torch.cat([first * s, second])
