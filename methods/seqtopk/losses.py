"""Losses on router logits: balance of the experts' load, size of the logits, and ReMoE's sparsity.

Balance losses take all layers at once and are about K when the load is even, as in the Hugging Face package.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .router import check_bounds
from .routers import route


def lb_hf(logits: Sequence[Tensor], K: int, valid: Tensor | None = None) -> Tensor:
    """The package's load-balancing loss, `E sum_e f_e P_e` over all layers' rows together, from logits (N, E) a layer.

    f_e is the share of tokens that have expert e among their own best K, P_e its mean probability. It counts TopK
    whatever the router does; `lb_from_mask` counts the real selection. `valid` bool (B, T) or (N,) leaves padding out.
    """
    check_bounds(K, logits[0].shape[-1])
    masks = [route(layer.detach().float().softmax(-1)[None], K, "topk")[0] for layer in logits]
    return lb_from_mask(logits, masks, valid)


def lb_from_mask(logits: Sequence[Tensor], masks: Sequence[Tensor], valid: Tensor | None = None) -> Tensor:
    """`E sum_e f_e P_e` with f_e counted from what was selected: masks (N, E), one a layer, or of any leading shape.

    Even load gives the mean number of experts a token. The gradient flows through P alone.
    """
    p = _rows(logits, valid).softmax(-1)
    counts = _rows(masks, valid).to(p.dtype)
    return p.shape[-1] * (counts.mean(0) * p.mean(0)).sum()


def z_loss(logits: Sequence[Tensor], valid: Tensor | None = None) -> Tensor:
    """Mean over layers and valid tokens of `logsumexp(logits)^2` (OLMoE's pretraining adds 1e-3 of it)."""
    return _rows(logits, valid).logsumexp(-1).square().mean()


def relu_l1(gates: Sequence[Tensor], K: int, valid: Tensor | None = None) -> Tensor:
    """ReMoE's sparsity term `E / (K n^2) sum_e count_e sum_t gate_te`, averaged over layers.

    `gates` are relu(logits) (N, E) of each layer. With K experts of a token positive and an even load it is the mean
    sum of a token's gates. Its weight is steered by `next_l1_weight`.
    """
    terms = []
    for layer in gates:
        rows = _rows([layer], valid)
        counts = (rows > 0).to(rows.dtype).mean(0)
        terms.append(rows.shape[-1] / K * (counts * rows.mean(0)).sum())
    return torch.stack(terms).mean()


def next_l1_weight(weight: float, used: float, K: int, factor: float = 1.2) -> float:
    """ReMoE's weight after a step that used `used` experts a token: up by `factor` if above K, else down."""
    return weight * factor if used > K else weight / factor


def _rows(layers: Sequence[Tensor], valid: Tensor | None) -> Tensor:
    """All layers' valid rows below each other (rows, E)."""
    flat = [layer.reshape(-1, layer.shape[-1]) for layer in layers]
    if valid is not None:
        keep = valid.reshape(-1).bool()
        flat = [rows[keep] for rows in flat]
    rows = torch.cat(flat)
    if not len(rows):
        raise ValueError("no valid token: a loss over nothing is not defined; drop batches that are all padding")
    return rows
