"""Random masks: of patches for MAE, of squares for SimMIM."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Masking:
    """A mask of N images of L patches, k of them visible.

    ``visible`` (N, k): indices of the visible patches, in the encoder's order; ``restore`` (N, L): each patch's index
    in the sequence of visible, then masked patches; ``mask`` (N, L): 1 for masked.
    """

    visible: Tensor
    restore: Tensor
    mask: Tensor


def visible_patches(patches: int, mask_ratio: float) -> int:
    """``int(patches * (1 - mask_ratio))`` in float64, rounded down as in MAE's code: 20 at 0.8 leave 3, not 4.

    ``ValueError`` for a ratio outside [0, 1).
    """
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio is the masked share of the patches, from 0 to below 1; got {mask_ratio}")
    return int(patches * (1 - mask_ratio))


def random_masking(noise: Tensor, mask_ratio: float) -> Masking:
    """Mask all but the patches with the least noise (N, L), independently for each image (MAE, section 3)."""
    keep = visible_patches(noise.shape[1], mask_ratio)
    order = noise.argsort(dim=1, stable=True)
    ranks = torch.arange(noise.shape[1], device=noise.device).expand_as(order)
    restore = torch.empty_like(order).scatter_(1, order, ranks)
    return Masking(order[:, :keep], restore, (restore >= keep).to(noise.dtype))


def gather_tokens(x: Tensor, indices: Tensor) -> Tensor:
    """Tokens (N, k, D) of ``x`` (N, L, D) at ``indices`` (N, k)."""
    return x.gather(1, indices[..., None].expand(-1, -1, x.shape[-1]))


def masked_squares(mask_ratio: float, squares: int) -> int:
    """``ceil(mask_ratio * squares)``: how many SimMIM masks. ``ValueError`` for a ratio outside [0, 1)."""
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio is the masked share of the image, from 0 to below 1; got {mask_ratio}")
    return math.ceil(squares * mask_ratio)


def square_masking(order: Tensor, mask_ratio: float, tokens_per_square: int) -> Tensor:
    """SimMIM's mask (N, G, G), 1 for masked: the first squares of each image's ``order``, a permutation (N, R^2).

    G = R * ``tokens_per_square``.
    """
    n, squares = order.shape
    side = math.isqrt(squares)
    mask = torch.zeros(n, squares, device=order.device)
    mask.scatter_(1, order[:, : masked_squares(mask_ratio, squares)], 1.0)
    grid = mask.view(n, side, side)
    return grid.repeat_interleave(tokens_per_square, 1).repeat_interleave(tokens_per_square, 2)
