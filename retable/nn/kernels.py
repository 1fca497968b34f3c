"""Sums over the kernel of all pairs of n rows, ``E_ij = exp(u_i . u_j)``, without an n x n array, forward and backward.

E is symmetric: it is made in square blocks of pairs, each block once, which serves its rows and, in the transposed
direction, its columns. Backward makes the blocks again instead of keeping them. What a block sends to its columns is
gathered transposed, (d, n), so that no block is read against its layout. So memory is O(n d).

:func:`kernel_sums` weighs rows by E and leaves out the pairs of a mask; :func:`kernel_row_sums` are the row sums of E
without its diagonal, all that a contrastive loss needs. Both give first derivatives only, and expect ``u_i . u_j`` that
is not too large for its exponential (cosines over a temperature that is not tiny): nothing is shifted.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from retable.nn.mask import NeighbourMask

_ROOT_LOG2_E = math.log2(math.e) ** 0.5


def kernel_sums(u: Tensor, v: Tensor, mask: NeighbourMask | None = None) -> tuple[Tensor, Tensor]:
    """``(E v, E 1)``, (n, d) and (n,), from ``u`` (n, k) and ``v`` (n, d); E is zero at the pairs of ``mask``."""
    return _KernelSums.apply(u, v, mask)


def kernel_row_sums(u: Tensor) -> Tensor:
    """``s_i = sum_{j != i} exp(u_i . u_j)``: (n,) from ``u`` (n, d)."""
    return _KernelRowSums.apply(u)


class _KernelSums(torch.autograd.Function):
    """Backward, with g and z the gradients of the two outputs, needs the symmetrised gradient of the Gram matrix,
    ``W_ij = E_ij (g_i . v_j + z_i + g_j . v_i + z_j)``, which is one product of inner size 2d + 2.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, mask: NeighbourMask | None) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(u, v)
        ctx.mask = mask
        size = _block_size(u, 768)
        out, out_t, total = torch.zeros_like(v), torch.zeros_like(v.t()), u.new_zeros(len(u))
        vts = _transposed_blocks(v, size)
        outs, outs_t, totals = out.split(size), out_t.split(size, dim=1), total.split(size)
        for i, j, e in _masked_blocks(u, size, mask):
            outs[i].add_(product(e, vts[j]))
            totals[i].add_(e.sum(1))
            if _mirrored(i, j, mask):
                outs_t[j].add_(product(vts[i], e.t()))
                totals[j].add_(e.sum(0))
        return out.add_(out_t.t()), total

    @staticmethod
    def backward(ctx: Any, g: Tensor, z: Tensor) -> tuple[Tensor, Tensor, None]:
        u, v = ctx.saved_tensors
        mask: NeighbourMask | None = ctx.mask
        size = _block_size(u, 768)
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
        for i, j, e in _masked_blocks(u, size, mask):
            mirrored = _mirrored(i, j, mask)
            w = product(both_rows[i], both_cols[j]) if mirrored else product(rows[i], cols[j])
            w.mul_(e)
            dus[i].add_(product(w, uts[j]))
            dus_t[j].add_(product(uts[i], w.t()))
            dvs_t[j].add_(product(gts[i], e.t()))
            if mirrored:
                dvs[i].add_(product(e, gts[j]))
        return du.add_(du_t.t()), dv.add_(dv_t.t()), None


class _KernelRowSums(torch.autograd.Function):
    """Backward, with g the gradient of s: the gradient of u_i is ``sum_j e_ij (g_i + g_j) u_j``.

    Powers of 2 take a third of the time of powers of e, so u is scaled for them.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        w = w * _ROOT_LOG2_E
        ctx.save_for_backward(w)
        size = _block_size(w, 512)
        total = w.new_zeros(len(w))
        totals = total.split(size)
        for i, j, e in _blocks_without_diagonal(w, size):
            if i != j:
                totals[j].add_(e.sum(0))
            totals[i].add_(e.sum(1))
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors
        size = _block_size(w, 512)
        dw, dw_t = torch.zeros_like(w), torch.zeros_like(w.t())
        gs, dws, dws_t = g.split(size), dw.split(size), dw_t.split(size, dim=1)
        wts = _transposed_blocks(w, size)
        for i, j, e in _blocks_without_diagonal(w, size):
            e.mul_(gs[i][:, None] + gs[j])
            dws[i].add_(product(e, wts[j]))
            if i != j:
                dws_t[j].add_(product(wts[i], e.t()))
        return dw.add_(dw_t.t()).div_(_ROOT_LOG2_E)


# Blocks ---------------------------------------------------------------------------------------------------------------


def _gram_blocks(u: Tensor, size: int, symmetric: bool = True) -> Iterator[tuple[int, int, Tensor]]:
    """Yields (i, j, u_i u_j^T) of blocks of ``size`` rows: those with i <= j, or every pair if not ``symmetric``."""
    us = u.split(size)
    for i, ui in enumerate(us):
        for j in range(i if symmetric else 0, len(us)):
            yield i, j, product(ui, us[j])


def _masked_blocks(u: Tensor, size: int, mask: NeighbourMask | None) -> Iterator[tuple[int, int, Tensor]]:
    """Yields (i, j, block of E), entries of the mask zero; a directed mask takes away the symmetry."""
    masked = mask.in_blocks(size) if mask is not None else {}
    for i, j, gram in _gram_blocks(u, size, mask is None or mask.symmetric):
        e = gram.exp_()
        if (i, j) in masked:
            e.view(-1).index_fill_(0, masked[i, j], 0.0)
        yield i, j, e


def _blocks_without_diagonal(w: Tensor, size: int) -> Iterator[tuple[int, int, Tensor]]:
    """Yields (i, j, block of 2^(w_i . w_j)) for i <= j, the diagonal zero."""
    for i, j, gram in _gram_blocks(w, size):
        e = gram.exp2_()
        if i == j:
            e.fill_diagonal_(0)
        yield i, j, e


def _mirrored(i: int, j: int, mask: NeighbourMask | None) -> bool:
    """Whether block (i, j) also stands for (j, i)."""
    return i != j and (mask is None or mask.symmetric)


def _transposed_blocks(x: Tensor, size: int) -> list[Tensor]:
    return [block.t().contiguous() for block in x.split(size)]


def _block_size(t: Tensor, on_cpu: int) -> int:
    # CPU: each sum's fastest of 256 .. 1024 at n = 2708 and 8000 (768: a block is 2.4 MB). GPU: few, large launches.
    return on_cpu if t.device.type == "cpu" else 4096


# torch's float32 matrix product goes to MKL, which reaches half the speed of an AVX-512 AMD core (95 of 190
# GFLOP/s measured); oneDNN, in torch too, reaches it. Inductor's entry is the only one without copies, so it
# is looked up with a fallback.
_onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b^T`` for a (m, k) and b (n, k)."""
    if _onednn_linear is not None and a.dtype == torch.float32 and a.device.type == "cpu":
        return _onednn_linear(a, b, None, "none", [], "")
    return a @ b.t()
