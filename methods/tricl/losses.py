"""triCL's losses (arXiv 2310.18904): the score of a pair is ``z^T S z'``, S = diag(s_1..s_D) > 0, one number a feature.

Next to SimCLR and the spectral loss (SCL), which know features only up to rotation, stand their tri forms. These come
as the authors' code computes them (mode ``released``; ``released_learned`` differs only in that S is trained) and in
the form of the theory (mode ``paper``).

Two views of B samples are stacked: ``z`` (N, D), N = 2B, rows 0..B-1 view 1, rows B..2B-1 view 2 in the same order.
``ids`` (N,) names the sample of each row; rows of one sample are positives, all others negatives, a row is neither to
itself. ``ids=None`` says that all B samples differ, and takes the short way: cross-entropy in place of masks, and
D x D Gram matrices in place of N x N similarities.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.nt_xent import nt_xent_stacked, other_view

MODES = ("released", "released_learned", "paper")


class Importance(nn.Module):
    """``S = softplus(raw)`` (D,), raw = 0.1 N(0, 1) at first: S starts near 0.69 and stays above 0.

    With ``learned=False`` raw has no gradient. The authors' code gives raw a gradient and hands it to no optimiser, so
    S stays what chance made it: that is mode ``released``.
    """

    def __init__(self, dim: int, *, learned: bool) -> None:
        super().__init__()
        self.raw = nn.Parameter(0.1 * torch.randn(dim), requires_grad=learned)

    def forward(self) -> Tensor:
        """S (D,)."""
        return F.softplus(self.raw)


class TriLoss(NamedTuple):
    """The contrastive part, the decorrelation penalty, and ``total = contrast + tau * decorrelation``; scalars."""

    contrast: Tensor
    decorrelation: Tensor
    total: Tensor


# Without importance ---------------------------------------------------------------------------------------------------


def simclr(z: Tensor, temperature: float, ids: Tensor | None = None, *, normalise: bool = True) -> Tensor:
    """NT-Xent of ``z`` (N, D), mean over the N rows; several positives are summed inside the logarithm.

    ``normalise``: rows to unit length first. ``ValueError`` for views that do not pair up.
    """
    z = F.normalize(z) if normalise else z
    return nt_xent_stacked(z, z, temperature, _repeated(z, ids))


def scl(z: Tensor, temperature: float, ids: Tensor | None = None) -> Tensor:
    """The spectral loss as triCL's authors code it: unit rows, similarities over ``temperature``, positives once.

    ``-mean_i a_i+ + (1 / N^2) sum_{i, j negative} a_ij^2``. The loss's own authors weigh positives twice and bound the
    length instead of fixing it: :func:`scl_original`.
    """
    z = F.normalize(z)
    return _spectral(z / temperature, z, z.T @ z, _repeated(z, ids))


def scl_original(z1: Tensor, z2: Tensor, mu: float = 1.0) -> tuple[Tensor, Tensor]:
    """The spectral loss as its own authors code it (HaoChen et al., 2021, https://arxiv.org/abs/2106.04156).

    ``z1``, ``z2`` (B, D). Rows longer than ``sqrt(mu)`` are cut to that length. Returns the pull,
    ``-2 mean_i z1_i.z2_i``, and the push, ``mean_{i != j} (z1_i.z2_j)^2``, both over ``mu``; the loss is their sum.
    ``ValueError`` for one pair.
    """
    z1, z2 = (_in_ball(z, mu) for z in (z1, z2))
    pull, push = _pull_and_push(z1, z2)
    return pull / mu, push / mu


# With importance ------------------------------------------------------------------------------------------------------


def tri_simclr(z: Tensor, s: Tensor, temperature: float, tau: float = 1.0, ids: Tensor | None = None) -> TriLoss:
    """NT-Xent with importance ``s`` (D,), the released form.

    Rows of ``z`` (N, D) have unit length; S scales the anchors of view 1 and not those of view 2. The penalty is the
    mean square of ``z^T z / N - I``, which cannot come near 0: the trace of ``z^T z / N`` is 1 and not D.
    """
    z = F.normalize(z)
    contrast = nt_xent_stacked(_scaled_first_view(z, s), z, temperature, _repeated(z, ids))
    return _with_penalty(contrast, _off_identity(z.T @ z / len(z)).mean(), tau)


def tri_scl(z: Tensor, s: Tensor, tau: float = 1.0, ids: Tensor | None = None) -> TriLoss:
    """The spectral loss with importance ``s`` (D,), the released form: as :func:`scl` at temperature 1.

    S scales the anchors of view 1 only. The penalty is the mean square of ``z^T z - I`` without a division by N, so it
    weighs about N^2 times that of :func:`tri_simclr`.
    """
    z = F.normalize(z)
    gram = z.T @ z
    contrast = _spectral(_scaled_first_view(z, s), z, gram, _repeated(z, ids))
    return _with_penalty(contrast, _off_identity(gram).mean(), tau)


def tri_simclr_paper(z: Tensor, s: Tensor, temperature: float, tau: float = 1.0) -> TriLoss:
    """NT-Xent with logits ``z_i^T S z_j / temperature`` for the anchors of both views, rows as they come.

    The penalty is ``||z^T z / N - I||_F^2``: what the theory asks for, E[f f^T] = I.
    """
    contrast = nt_xent_stacked(z * s, z, temperature, _repeated(z, None))
    return _with_penalty(contrast, _off_identity(z.T @ z / len(z)).sum(), tau)


def tri_scl_paper(z: Tensor, s: Tensor, tau: float = 1.0) -> TriLoss:
    """``-2 E[f^T S f+] + E[(f^T S f-)^2]`` under the penalty ``||E[f f^T] - I||_F^2``, the three-factor objective.

    Pairs are taken across views, rows as they come. Up to a constant it is ``||A - F S F^T||^2`` of the normalised
    augmentation graph A, whose minimiser is unique up to signs where eigenvalues differ.
    """
    _repeated(z, None)
    z1, z2 = z.chunk(2)
    pull, push = _pull_and_push(z1 * s, z2)
    return _with_penalty(pull + push, _off_identity(z.T @ z / len(z)).sum(), tau)


def tri_clip(image: Tensor, text: Tensor, s: Tensor, temperature: float, tau: float = 1.0) -> TriLoss:
    """CLIP's symmetric cross-entropy with logits ``image_i^T S text_j / temperature``, one S for both towers.

    ``image``, ``text`` (B, D), brought to unit length. The penalty is the sum of :func:`tri_simclr`'s for each tower,
    scaled so that it can vanish: the rows' second moments times D against I. No code of it was published: our reading.
    """
    image, text = F.normalize(image), F.normalize(text)
    logits = (image * s) @ text.T / temperature
    target = torch.arange(len(logits), device=logits.device)
    contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    dim = image.shape[1]
    penalty = sum((_off_identity(dim / len(z) * z.T @ z).mean() for z in (image, text)), image.new_zeros(()))
    return _with_penalty(contrast, penalty, tau)


# Inside ---------------------------------------------------------------------------------------------------------------


def _with_penalty(contrast: Tensor, decorrelation: Tensor, tau: float) -> TriLoss:
    return TriLoss(contrast, decorrelation, contrast + tau * decorrelation)


def _off_identity(c: Tensor) -> Tensor:
    """Squared entries (D, D) of ``c - I``."""
    return (c - torch.eye(len(c), dtype=c.dtype, device=c.device)).square()


def _scaled_first_view(z: Tensor, s: Tensor) -> Tensor:
    first, second = z.chunk(2)
    return torch.cat([first * s, second])


def _in_ball(z: Tensor, mu: float) -> Tensor:
    radius = mu**0.5
    inside = z.detach().norm(dim=1, keepdim=True) < radius
    return torch.where(inside, z, F.normalize(z) * radius)


def _pull_and_push(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """``-2 mean_i z1_i.z2_i`` and ``mean_{i != j} (z1_i.z2_j)^2`` of (B, D); scalars."""
    size = len(z1)
    if size < 2:
        raise ValueError("the spectral loss needs at least 2 samples: one has no negatives")
    positive = (z1 * z2).sum(1)
    every = ((z1.T @ z1) * (z2.T @ z2)).sum()
    return -2 * positive.mean(), (every - positive.square().sum()) / (size * (size - 1))


def _spectral(q: Tensor, z: Tensor, gram: Tensor, ids: Tensor | None) -> Tensor:
    """``-mean_i sum_{j positive} q_i.z_j + (1/N^2) sum_{i, j negative} (q_i.z_j)^2``; ``gram`` is ``z^T z``."""
    size = len(z)
    if ids is not None:
        similarity = q @ z.T
        same = ids[:, None] == ids
        positive = similarity.masked_fill(~same, 0).sum() - similarity.diagonal().sum()
        return -positive / size + similarity.masked_fill(same, 0).square().sum() / size**2
    positive = (q * z[other_view(size, z.device)]).sum(1)
    own = (q * z).sum(1)
    # <q^T q, z^T z> is the sum over all pairs: no N x N array.
    push = ((q.T @ q) * gram).sum() - positive.square().sum() - own.square().sum()
    return -positive.mean() + push / size**2


def _repeated(z: Tensor, ids: Tensor | None) -> Tensor | None:
    """``ids`` if a sample occurs twice in a view, None if all differ. ``ValueError`` if views do not pair up."""
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
