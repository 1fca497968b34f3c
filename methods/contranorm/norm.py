"""ContraNorm (Guo et al., ICLR 2023, arXiv 2303.06562): a layer that keeps the rows of a matrix from collapsing.

It is one gradient step on the uniformity loss ``sum_i log sum_j exp(h_i . h_j / tau)``, taken on the features
themselves: every row moves away from a softmax-weighted mean of the rows similar to it,

    m_i = sum_j S_ij x_j,   S = softmax_rows(cos(x_i, x_j) / tau),   y = (1 + s) x - s m   (or x - s m).

On a graph a node's neighbours and the node itself are left out of the softmax. Shapes: ``x`` is (n, d), or
(..., n, d) without a mask. The layers it is compared with are in `baselines.py`.
"""

import torch
from torch import Tensor, nn

from retable.nn.kernels import kernel_sums
from retable.nn.mask import NeighbourMask
from retable.nn.rows import normalize_rows

SIMILARITIES = ("cosine", "dot")
LEARNABLE = (None, "linear", "exp")
# exp(cos / tau) needs no shift by the row maximum while e^(1/tau) and its inverse are well inside float32.
_SMALLEST_KERNEL_TAU = 0.05


class ContraNorm(nn.Module):
    """``y = (1 + s) x - s m``, or ``x - s m`` without ``identity``; m of :func:`weighted_mean` at temperature tau.

    The first is the authors' graph code; the second is equation (6) of the paper without the LayerNorm around it.
    With ``learnable`` ("linear" or "exp") one scale per channel, g = p or exp(p), replaces s and gives
    ``g (x - m)`` (``identity``; there the authors' code has no ``1 +``) or ``x - g m``; ``dim`` is the number of
    channels. Nodes that may not be compared with any other are returned unchanged: the authors' code gives NaN
    there. ``ValueError`` for an unknown ``similarity`` or ``learnable`` and for a tau that is not positive.
    """

    def __init__(
        self,
        scale: float,
        tau: float = 1.0,
        *,
        identity: bool = True,
        dual: bool = False,
        similarity: str = "cosine",
        learnable: str | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__()
        for what, value, choices in (
            ("similarity", similarity, SIMILARITIES),
            ("learnable", learnable, LEARNABLE),
        ):
            if value not in choices:
                raise ValueError(f"unknown {what} {value!r}: choose one of {', '.join(map(str, choices))}")
        if tau <= 0:
            raise ValueError(f"ContraNorm: tau must be positive, got {tau}")
        self.scale, self.tau = scale, tau
        self.identity, self.dual, self.similarity, self.learnable = identity, dual, similarity, learnable
        if learnable is not None:
            if dim is None:
                raise ValueError("ContraNorm: a learnable scale needs dim, the number of channels")
            start = torch.full((dim,), float(self.scale))
            self.channel_scale = nn.Parameter(start if learnable == "linear" else start.log())

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` (n, d), or (..., n, d) without a mask; same shape out."""
        if self.learnable is None and self.scale == 0:
            return x
        m = weighted_mean(x, self.tau, mask, similarity=self.similarity, dual=self.dual)
        if self.learnable is None:
            y = (1 + self.scale) * x - self.scale * m if self.identity else x - self.scale * m
        else:
            g = self.channel_scale if self.learnable == "linear" else self.channel_scale.exp()
            y = g * x - g * m if self.identity else x - g * m
        return y if mask is None else torch.where(mask.empty[:, None], x, y)


def weighted_mean(
    x: Tensor,
    tau: float = 1.0,
    mask: NeighbourMask | None = None,
    *,
    similarity: str = "cosine",
    dual: bool = False,
) -> Tensor:
    """``m = S x`` (shape of ``x``) with S the row softmax of the pairwise similarities over ``tau``.

    With ``dual`` the row plus the column softmax, which gives the full gradient of the uniformity loss.
    ``similarity``: "cosine", as in the authors' code, or "dot", as in the paper's equation (6). Rows whose
    allowed set is empty come out as zero. ``ValueError`` if ``mask`` is for another number of nodes.
    """
    if mask is not None and x.shape[:-1] != (mask.n,):
        raise ValueError(f"the mask is for ({mask.n}, d) features, got {tuple(x.shape)}: one mask goes with one graph")
    q = normalize_rows(x) if similarity == "cosine" else x
    symmetric = mask is None or mask.symmetric
    # Cosines have a bounded exponential, so S x is a quotient of kernel sums, which need no n x n array.
    if x.dim() == 2 and similarity == "cosine" and tau >= _SMALLEST_KERNEL_TAU and (symmetric or not dual):
        u = q / tau**0.5
        total, z = kernel_sums(u, x, mask)
        z = z[:, None] if mask is None else torch.where(mask.empty, 1.0, z)[:, None]
        return total / z + kernel_sums(u, x / z, mask)[0] if dual else total / z
    gram = q @ q.transpose(-1, -2) / tau
    if mask is None:
        weights = gram.softmax(-1) + gram.softmax(-2) if dual else gram.softmax(-1)
        return weights @ x
    blocked = mask.dense()
    # The lowest finite number, not -inf: a row without any allowed pair then makes no NaN on the way either.
    gram = gram.masked_fill(blocked, torch.finfo(gram.dtype).min)
    weights = gram.softmax(-1) + gram.softmax(-2) if dual else gram.softmax(-1)
    return weights.masked_fill(blocked, 0.0) @ x


class FeatureContraNorm(nn.Module):
    """Feature ("dual") form for large graphs: ``m = x softmax_rows(u^T u / tau)``, a d x d softmax.

    u is ``x`` with unit rows, after subtraction of each row's mean if ``center``; with ``unit_rows`` the
    update acts on u itself. Output ``(1 + s) x - s m`` (``identity``) or ``x - s m``. The defaults are those
    of the published ogbn-arxiv run.
    """

    def __init__(
        self,
        scale: float,
        tau: float = 1.0,
        *,
        center: bool = False,
        unit_rows: bool = False,
        identity: bool = True,
    ) -> None:
        super().__init__()
        self.scale, self.tau = scale, tau
        self.center, self.unit_rows, self.identity = center, unit_rows, identity

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` (n, d); ``mask`` is accepted for a common interface and has no meaning for this form."""
        if self.center:
            x = x - x.mean(dim=-1, keepdim=True)
        u = normalize_rows(x)
        if self.unit_rows:
            x = u
        m = x @ (u.transpose(-1, -2) @ u / self.tau).softmax(-1)
        return (1 + self.scale) * x - self.scale * m if self.identity else x - self.scale * m
