"""The two-factor losses that triCL extends: SimCLR and the spectral contrastive loss (SCL). Scores are `z^T z'`.

Two views of B images are stacked: `z` (N, D), N = 2B, rows 0..B-1 view 1, rows B..2B-1 view 2 in the same order. `ids`
(N,) gives the image of each row: rows of one image are positives, all others negatives, the row itself neither.
`ids=None` says that all B images differ, which needs no masks: cross-entropy instead, and D x D Gram matrices in place
of N x N similarities.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.nn.nt_xent import nt_xent_stacked, other_view


def simclr(z: Tensor, temperature: float, ids: Tensor | None = None, *, normalise: bool = True) -> Tensor:
    """NT-Xent of `z` (N, D), mean over rows; several positives are summed inside the logarithm.

    `normalise`: rows to unit length first. ValueError for views that do not pair up.
    """
    z = F.normalize(z) if normalise else z
    return nt_xent_stacked(z, z, temperature, repeated_ids(z, ids))


def scl(z: Tensor, temperature: float, ids: Tensor | None = None) -> Tensor:
    """The spectral loss as triCL's authors code it: unit rows, similarities over `temperature`, positives once.

    `-mean_i a_i+ + (1 / N^2) sum_{i, j negative} a_ij^2`. The loss's own authors weigh positives twice and bound the
    length instead of fixing it: :func:`scl_original`.
    """
    z = F.normalize(z)
    return spectral(z / temperature, z, z.T @ z, ids)


def scl_original(z1: Tensor, z2: Tensor, mu: float = 1.0) -> tuple[Tensor, Tensor]:
    """The spectral loss as its own authors code it (HaoChen et al., 2021, https://arxiv.org/abs/2106.04156).

    `z1`, `z2` (B, D); rows longer than `sqrt(mu)` are clipped to that length. Returns the positive term
    `-2 mean_i z1_i.z2_i` and the negative term `mean_{i != j} (z1_i.z2_j)^2`, both over `mu`; the loss is their sum.
    ValueError for one pair.
    """
    positive, negative = spectral_terms(_clipped(z1, mu), _clipped(z2, mu))
    return positive / mu, negative / mu


# Shared with the three-factor losses ----------------------------------------------------------------------------------


def spectral(q: Tensor, z: Tensor, gram: Tensor, ids: Tensor | None) -> Tensor:
    """`-mean_i sum_{j positive} q_i.z_j + (1 / N^2) sum_{i, j negative} (q_i.z_j)^2`; `gram` (D, D) is `z^T z`."""
    size, ids = len(z), repeated_ids(z, ids)
    if ids is not None:
        similarity = q @ z.T
        same = ids[:, None] == ids
        positive = similarity.masked_fill(~same, 0).sum() - similarity.diagonal().sum()
        return -positive / size + similarity.masked_fill(same, 0).square().sum() / size**2
    positive = (q * z[other_view(size, z.device)]).sum(1)
    own = (q * z).sum(1)
    # <q^T q, z^T z> is the sum over all pairs, without an N x N array.
    negative = ((q.T @ q) * gram).sum() - positive.square().sum() - own.square().sum()
    return -positive.mean() + negative / size**2


def spectral_terms(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """`-2 mean_i z1_i.z2_i` and `mean_{i != j} (z1_i.z2_j)^2` of `z1`, `z2` (B, D); scalars. ValueError for B = 1."""
    size = len(z1)
    if size < 2:
        raise ValueError("the spectral loss needs at least 2 samples: one has no negatives")
    positive = (z1 * z2).sum(1)
    total = ((z1.T @ z1) * (z2.T @ z2)).sum()
    return -2 * positive.mean(), (total - positive.square().sum()) / (size * (size - 1))


def repeated_ids(z: Tensor, ids: Tensor | None) -> Tensor | None:
    """`ids` if an image occurs twice in a view, None if all differ. ValueError if the views do not pair up."""
    if len(z) % 2 or len(z) < 2:
        raise ValueError(f"two views of the same samples stacked have an even number of rows, got {len(z)}")
    if ids is None:
        return None
    first, second = ids.chunk(2)
    if ids.shape != z.shape[:1] or not torch.equal(first, second):
        raise ValueError(
            f"ids must name the sample of each of {len(z)} rows, view 2 in the order of view 1; got {tuple(ids.shape)}"
        )
    return None if len(first.unique()) == len(first) else ids


def _clipped(z: Tensor, mu: float) -> Tensor:
    radius = mu**0.5
    inside = z.detach().norm(dim=1, keepdim=True) < radius
    return torch.where(inside, z, F.normalize(z) * radius)
