"""NT-Xent, the contrastive loss of SimCLR (Chen et al., ICML 2020, arXiv 2002.05709, section 2.1).

Two views of N images give 2N rows. With s_ij the cosine of rows i and j, p(i) the other view of row i's image, and a
temperature t, the loss is the mean over rows of

    l_i = -s_ip(i) / t + log sum_{j != i} exp(s_ij / t).

Three papers compute it in three ways. Where they mean the same they differ by rounding alone; each stands here with the
arithmetic that its paper's numbers were measured with:

* :func:`nt_xent_interleaved`: rows 2k and 2k + 1 are views of one image (DYNACL);
* :func:`nt_xent_stacked`: all first views, then all second ones; anchors may differ from keys, and a row may have
  several positives (triCL);
* :func:`floored_terms`: interleaved rows, cosines not less than ``FLOOR``, positives and candidates apart (graph
  contrast's vision experiments, which take one of the two out).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.nn.rows import normalize_rows

# Cosines below this get no gradient.
FLOOR = 1e-7


def nt_xent_interleaved(z: Tensor, temperature: float) -> Tensor:
    """The loss of ``z`` (2N, d), not yet of unit length, in which the partner of row j is j xor 1; a scalar.

    ``ValueError`` for a temperature that is not positive and for rows that do not pair up.
    """
    if temperature <= 0:
        raise ValueError(f"nt_xent: temperature is {temperature}; expected a number above 0")
    if z.ndim != 2 or len(z) < 2 or len(z) % 2:
        raise ValueError(f"nt_xent: views have shape {tuple(z.shape)}; expected (2N, d), two rows for each image")
    u = F.normalize(z, dim=1, eps=1e-8)
    logits = (u @ u.T).div_(temperature)
    partners = (u[0::2] * u[1::2]).sum(1) / temperature
    return logits.fill_diagonal_(float("-inf")).logsumexp(1).mean() - partners.mean()


def nt_xent_stacked(q: Tensor, z: Tensor, temperature: float, ids: Tensor | None = None) -> Tensor:
    """Mean over anchors ``q`` (2N, d) of -log(share of the positives) among the keys ``z`` (2N, d) but their own.

    Scores are ``q_i . z_j`` of rows as they come; :func:`other_view` is the positive. ``ids`` (2N,) names the image of
    each row instead: all rows of an image are positives, summed inside the logarithm.
    """
    logits = q @ (z.T / temperature)
    logits.fill_diagonal_(-torch.inf)
    if ids is None:
        return F.cross_entropy(logits, other_view(len(z), z.device))
    positive = ids[:, None] == ids
    return (logits.logsumexp(1) - logits.masked_fill(~positive, -torch.inf).logsumexp(1)).mean()


def other_view(size: int, device: torch.device) -> Tensor:
    """The row of the other view for each of ``size`` stacked rows: int64 (size,)."""
    return torch.arange(size, device=device).roll(size // 2)


def floored_terms(x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The means over rows of ``s_ip(i) / t`` and of the log-sum, scalars; NT-Xent is the second less the first.

    ``x`` (2N, d), not yet of unit length: rows 2k and 2k + 1 are views of one image. Cosines are at least ``FLOOR``.
    """
    s = (normalize_rows(x) @ normalize_rows(x).t()).clamp(min=FLOOR) / temperature
    rows = torch.arange(len(x), device=x.device)
    pull = s[rows, rows ^ 1].mean()
    push = s.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), float("-inf")).logsumexp(1).mean()
    return pull, push
