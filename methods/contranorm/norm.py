"""ContraNorm (Guo et al., ICLR 2023, arXiv 2303.06562) and the normalisation layers it is compared with.

One gradient step on the uniformity loss ``sum_i log sum_j exp(h_i . h_j / tau)``, taken on the features
themselves: every row moves away from a softmax-weighted mean of the rows similar to it,

    m_i = sum_j S_ij x_j,   S = softmax_rows(cos(x_i, x_j) / tau),   y = (1 + s) x - s m   (or x - s m).

On a graph a node's neighbours and the node itself are left out of the softmax. Shapes: ``x`` is (n, d), or
(..., n, d) without a mask.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# exp(cos / tau) needs no shift by the row maximum while e^(1/tau) and its inverse are well inside float32.
_SMALLEST_KERNEL_TAU = 0.05


class NeighbourMask:
    """Pairs (i, j) that the softmax of row i leaves out, kept as an edge list: no n x n array.

    ``pairs`` int64 (2, E), self pairs included where a node is to leave out itself; ``n`` the node count.
    """

    def __init__(self, pairs: Tensor, n: int) -> None:
        if pairs.dim() != 2 or pairs.shape[0] != 2:
            raise ValueError(f"NeighbourMask needs pairs of shape (2, E), got {tuple(pairs.shape)}")
        if pairs.numel() and (int(pairs.min()) < 0 or int(pairs.max()) >= n):
            raise ValueError(f"NeighbourMask: pairs name nodes outside 0 .. {n - 1}; pass the number of all nodes")
        self.n = n
        keys = torch.unique(pairs[0] * n + pairs[1])
        self.rows, self.cols = keys // n, keys % n
        self.symmetric = torch.equal(torch.sort(self.cols * n + self.rows).values, keys)
        # Decided by counting: a sum of exponentials that ought to be zero is not a reliable witness.
        self.empty = torch.bincount(self.rows, minlength=n) == n
        self._blocks: dict[int, dict[tuple[int, int], Tensor]] = {}

    def to(self, device: torch.device | str) -> "NeighbourMask":
        """The same mask on another device."""
        return NeighbourMask(torch.stack([self.rows, self.cols]).to(device), self.n)

    def dense(self) -> Tensor:
        """Boolean (n, n), True where left out."""
        blocked = torch.zeros(self.n, self.n, dtype=torch.bool, device=self.rows.device)
        blocked[self.rows, self.cols] = True
        return blocked

    def in_blocks(self, size: int) -> dict[tuple[int, int], Tensor]:
        """Flat places of the masked entries inside each block (bi, bj) of ``size`` rows and columns."""
        if size not in self._blocks:
            bi, bj = self.rows // size, self.cols // size
            width = (self.n - bj * size).clamp(max=size)
            place = (self.rows - bi * size) * width + self.cols - bj * size
            per_side = -(-self.n // size)
            block = bi * per_side + bj
            order = torch.argsort(block, stable=True)
            names, counts = torch.unique_consecutive(block[order], return_counts=True)
            parts = place[order].split(counts.tolist())
            self._blocks[size] = {divmod(b, per_side): p for b, p in zip(names.tolist(), parts, strict=True)}
        return self._blocks[size]


class _KernelSum(torch.autograd.Function):
    """``(E v, E 1)`` with ``E_ij = exp(u_i . u_j)``, masked entries zero, in O(n d) memory.

    E is symmetric, so each block of pairs is computed once and serves its rows and its columns, forward and
    backward (first derivatives only). Backward, with g and z the gradients of the two outputs, needs the
    symmetrised gradient of the Gram matrix, ``W_ij = E_ij (g_i . v_j + z_i + g_j . v_i + z_j)``, which is one
    product of inner size 2d + 2. What a block sends to its columns is gathered transposed, (d, n): so E is
    never read against its layout.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, mask: NeighbourMask | None) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(u, v)
        ctx.mask = mask
        size = _block_size(u)
        out, out_t, total = torch.zeros_like(v), torch.zeros_like(v.t()), u.new_zeros(len(u))
        vts = _transposed_blocks(v, size)
        outs, outs_t, totals = out.split(size), out_t.split(size, dim=1), total.split(size)
        for i, j, e in _kernel_blocks(u, size, mask):
            outs[i].add_(_product(e, vts[j]))
            totals[i].add_(e.sum(1))
            if _mirrored(i, j, mask):
                outs_t[j].add_(_product(vts[i], e.t()))
                totals[j].add_(e.sum(0))
        return out.add_(out_t.t()), total

    @staticmethod
    def backward(ctx: Any, g: Tensor, z: Tensor) -> tuple[Tensor, Tensor, None]:
        u, v = ctx.saved_tensors
        mask: NeighbourMask | None = ctx.mask
        size = _block_size(u)
        z, one = z[:, None], torch.ones_like(z)[:, None]
        du, du_t, dv, dv_t = (torch.zeros_like(t) for t in (u, u.t(), v, v.t()))
        uts, gts = _transposed_blocks(u, size), _transposed_blocks(g, size)
        dus, dvs = du.split(size), dv.split(size)
        dus_t, dvs_t = du_t.split(size, dim=1), dv_t.split(size, dim=1)
        # W of a block's own rows (g_i . v_j + z_i), or of both triangles where the block stands for two.
        rows, cols = torch.cat([g, z], 1).split(size), torch.cat([v, one], 1).split(size)
        both_rows, both_cols = (
            torch.cat([g, z, v, one], 1).split(size),
            torch.cat([v, one, g, z], 1).split(size),
        )
        for i, j, e in _kernel_blocks(u, size, mask):
            mirrored = _mirrored(i, j, mask)
            w = _product(both_rows[i], both_cols[j]) if mirrored else _product(rows[i], cols[j])
            w.mul_(e)
            dus[i].add_(_product(w, uts[j]))
            dus_t[j].add_(_product(uts[i], w.t()))
            dvs_t[j].add_(_product(gts[i], e.t()))
            if mirrored:
                dvs[i].add_(_product(e, gts[j]))
        return du.add_(du_t.t()), dv.add_(dv_t.t()), None


def _kernel_blocks(u: Tensor, size: int, mask: NeighbourMask | None) -> Iterator[tuple[int, int, Tensor]]:
    """Yields (i, j, E block): i <= j where the mask is symmetric or absent, else every pair of blocks."""
    masked = mask.in_blocks(size) if mask is not None else {}
    us = u.split(size)
    for i, ui in enumerate(us):
        for j in range(i if mask is None or mask.symmetric else 0, len(us)):
            e = _product(ui, us[j]).exp_()
            if (i, j) in masked:
                e.view(-1).index_fill_(0, masked[i, j], 0.0)
            yield i, j, e


def _mirrored(i: int, j: int, mask: NeighbourMask | None) -> bool:
    """Whether block (i, j) also stands for (j, i)."""
    return i != j and (mask is None or mask.symmetric)


def _transposed_blocks(x: Tensor, size: int) -> list[Tensor]:
    return [block.t().contiguous() for block in x.split(size)]


def _block_size(t: Tensor) -> int:
    # CPU: the fastest of 256 .. 1024 at n = 2708 and 8000 (a block is 2.4 MB). GPU: few, large launches.
    return 768 if t.device.type == "cpu" else 4096


# torch's float32 matrix product goes to MKL, which reaches half the speed of an AVX-512 AMD core (95 of 190
# GFLOP/s measured); oneDNN, in torch too, reaches it. Inductor's entry is the only one without copies, so it
# is looked up with a fallback.
_onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def _product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b^T`` for a (m, k) and b (n, k)."""
    if _onednn_linear is not None and a.dtype == torch.float32 and a.device.type == "cpu":
        return _onednn_linear(a, b, None, "none", [], "")
    return a @ b.t()


def unit(x: Tensor) -> Tensor:
    """Rows divided by ``max(||row||_2, 1e-12)``."""
    return F.normalize(x, dim=-1, eps=1e-12)


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
    q = unit(x) if similarity == "cosine" else x
    symmetric = mask is None or mask.symmetric
    if x.dim() == 2 and similarity == "cosine" and tau >= _SMALLEST_KERNEL_TAU and (symmetric or not dual):
        u = q / tau**0.5
        total, z = _KernelSum.apply(u, x, mask)
        z = z[:, None] if mask is None else torch.where(mask.empty, 1.0, z)[:, None]
        return total / z + _KernelSum.apply(u, x / z, mask)[0] if dual else total / z
    gram = q @ q.transpose(-1, -2) / tau
    if mask is None:
        weights = gram.softmax(-1) + gram.softmax(-2) if dual else gram.softmax(-1)
        return weights @ x
    blocked = mask.dense()
    # The lowest finite number, not -inf: a row without any allowed pair then makes no NaN on the way either.
    gram = gram.masked_fill(blocked, torch.finfo(gram.dtype).min)
    weights = gram.softmax(-1) + gram.softmax(-2) if dual else gram.softmax(-1)
    return weights.masked_fill(blocked, 0.0) @ x


class ContraNorm(nn.Module):
    """The paper's layer, without the LayerNorm that its equation (6) puts around it.

    Output ``(1 + s) x - s m`` (``identity``, as in the authors' graph code) or ``x - s m``, with m of
    :func:`weighted_mean`. With ``learnable`` ("linear" or "exp") one scale per channel, g = p or exp(p),
    replaces s and gives ``g (x - m)`` (``identity``; there the authors' code has no ``1 +``) or ``x - g m``.
    ``tau_acts`` "inside" divides the similarities by tau (authors' code), "outside" divides the scale
    (equation 6). Nodes that may not be compared with any other are returned unchanged: the authors' code
    gives NaN there.
    """

    def __init__(
        self,
        scale: float,
        tau: float = 1.0,
        *,
        identity: bool = True,
        dual: bool = False,
        similarity: str = "cosine",
        tau_acts: str = "inside",
        learnable: str | None = None,
        dim: int | None = None,
    ) -> None:
        super().__init__()
        _check_choice("similarity", similarity, ("cosine", "dot"))
        _check_choice("tau_acts", tau_acts, ("inside", "outside"))
        _check_choice("learnable", learnable, (None, "linear", "exp"))
        if tau <= 0:
            raise ValueError(f"ContraNorm: tau must be positive, got {tau}")
        self.scale, self.tau = (scale, tau) if tau_acts == "inside" else (scale / tau, 1.0)
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
        u = unit(x)
        if self.unit_rows:
            x = u
        m = x @ (u.transpose(-1, -2) @ u / self.tau).softmax(-1)
        return (1 + self.scale) * x - self.scale * m if self.identity else x - self.scale * m


# Baselines --------------------------------------------------------------------------------------------------


class Identity(nn.Module):
    """No normalisation."""

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` itself."""
        return x


class PairNorm(nn.Module):
    """PairNorm (Zhao & Akoglu, ICLR 2020): modes PN, PN-SI (rows scaled), PN-SCS (scaled, then centred)."""

    def __init__(self, mode: str, scale: float) -> None:
        super().__init__()
        _check_choice("PairNorm mode", mode, ("PN", "PN-SI", "PN-SCS"))
        self.mode, self.scale = mode, scale

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` (n, d); ``mask`` is not used."""
        mean = x.mean(dim=0)
        if self.mode == "PN-SCS":
            return self.scale * x / (1e-6 + x.square().sum(1, keepdim=True)).sqrt() - mean
        centred = x - mean
        squared = centred.square().sum(1, keepdim=True)
        return self.scale * centred / (1e-6 + (squared.mean() if self.mode == "PN" else squared)).sqrt()


class CentredUnit(nn.Module):
    """The authors' "LN" mode: row minus its mean, divided by its norm; no sqrt(d), no parameters."""

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` (n, d); ``mask`` is not used."""
        return unit(x - x.mean(dim=-1, keepdim=True))


class DifferentiableGroupNorm(nn.Module):
    """DGN (Zhou et al., NeurIPS 2020), PyG's ``DiffGroupNorm``: x + lambda * sum_g BatchNorm_g(S_g x)."""

    def __init__(self, dim: int, groups: int = 10, lamda: float = 0.01) -> None:
        super().__init__()
        from torch_geometric.nn import DiffGroupNorm  # imported on use: it takes seconds

        self.norm = DiffGroupNorm(dim, groups, lamda)

    def forward(self, x: Tensor, mask: NeighbourMask | None = None) -> Tensor:
        """``x`` (n, d); ``mask`` is not used."""
        return self.norm(x)


NORMS = ("none", "PN", "PN-SI", "PN-SCS", "LN", "DGN", "CN", "CN-D")


def make_norm(name: str, dim: int, scale: float = 1.0, **options: Any) -> nn.Module:
    """Normalisation layer by its short name in the literature, called as ``layer(x, mask)``; see ``NORMS``.

    ``dim``: channels; ``scale``: s of PairNorm and ContraNorm; ``options``: those of the layer (``tau`` and
    the like for "CN" and "CN-D", ``groups`` and ``lamda`` for "DGN"). ``ValueError`` for an unknown name.
    """
    _check_choice("norm", name, NORMS)
    if name == "CN":
        return ContraNorm(scale, dim=dim, **options)
    if name == "CN-D":
        return FeatureContraNorm(scale, **options)
    if name == "DGN":
        return DifferentiableGroupNorm(dim, **options)
    if options:
        raise ValueError(f"norm {name!r} takes no options, got {', '.join(options)}")
    if name.startswith("PN"):
        return PairNorm(name, scale)
    return CentredUnit() if name == "LN" else Identity()


def _check_choice(what: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise ValueError(f"unknown {what} {value!r}: choose one of {', '.join(map(str, choices))}")
