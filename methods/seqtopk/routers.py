"""Every rule by which experts are chosen, SeqTopK among those that it is compared with, at an equal budget.

`route` checks its input and hands it to the rule; a rule is one function in `RULES`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .router import ascending, best, check_bounds, nth_largest, sequence_topk


class Budget(NamedTuple):
    """Experts of a token: K on average, `lower` to `upper` each; `level` for rules that have one, else nan."""

    K: int
    lower: int
    upper: int
    level: float


@torch.no_grad()
def route(
    scores: Tensor,
    K: int,
    kind: str = "seqtopk",
    lower: int = 1,
    upper: int | None = None,
    valid: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    level: float | None = None,
) -> Tensor:
    """Selected (token, expert) pairs: bool, of the shape of `scores`.

    `scores` (B, T, E): of each sequence's tokens; or (N, E) with `cu_seqlens` (S + 1,), the bounds of S sequences laid
    end to end. `valid` bool (B, T) is false at padding, which gets nothing and adds nothing to a budget. `kind` is a
    name in `RULES`; `level` is for "threshold" and "top-p", and `calibrated_level` gives one.

    `upper` is K + 2 if absent. Bounds are clipped to what can hold (`lower` to K, `upper` to E); `lower=0, upper=E` is
    free of them. Raises ValueError for K outside 1..E, bounds that cannot hold the budget, scores of valid tokens that
    are not finite, and shapes that do not fit.
    """
    if cu_seqlens is not None:
        padded, valid = _unpack(scores, cu_seqlens, valid)
        return route(padded, K, kind, lower, upper, valid, None, level)[valid].view(scores.shape)
    if kind not in RULES:
        raise ValueError(f"router is {kind!r}; choose from {', '.join(RULES)}")
    if scores.dim() != 3:
        raise ValueError(f"scores have shape {tuple(scores.shape)}; expected (B, T, E), or (N, E) with cu_seqlens")
    batch, tokens, experts = scores.shape
    lower, upper = check_bounds(K, experts, lower, upper)
    if valid is None:
        valid = torch.ones(batch, tokens, dtype=torch.bool, device=scores.device)
    elif valid.shape != (batch, tokens):
        raise ValueError(f"valid has shape {tuple(valid.shape)}; expected {(batch, tokens)}, a truth value for a token")
    s = scores.detach() if scores.dtype == torch.float64 else scores.detach().float()
    if not valid.all():
        s = s.masked_fill(~valid[..., None], 0.0)
    if not math.isfinite(s.sum()):
        raise ValueError("router scores are not finite: look for NaN in the router's input or weights")
    if kind in WITH_LEVEL and level is None:
        raise ValueError(f"router {kind!r} needs a level: calibrated_level(scores, K, {kind!r}) gives one")
    return RULES[kind](s, valid, Budget(K, lower, upper, math.nan if level is None else level))


# Rules: (scores (B, T, E), zero at padding; valid (B, T); budget) -> selection (B, T, E) ------------------------------


def topk(s: Tensor, valid: Tensor, budget: Budget) -> Tensor:
    """The best K of each token."""
    return sequence_topk(s, budget.K, budget.K, budget.K, valid)


def seqtopk(s: Tensor, valid: Tensor, budget: Budget) -> Tensor:
    """The best K n of a sequence of n tokens, `lower` to `upper` a token; looks at later tokens."""
    return sequence_topk(s, budget.K, budget.lower, budget.upper, valid)


def batchtopk(s: Tensor, valid: Tensor, budget: Budget) -> Tensor:
    """SeqTopK with all sequences as one; looks at later tokens."""
    return seqtopk(s.view(1, -1, s.shape[-1]), valid.view(1, -1), budget).view_as(s)


def threshold(s: Tensor, valid: Tensor, budget: Budget) -> Tensor:
    """Scores above the level, `lower` to `upper` a token."""
    keep = (s > budget.level) & best(s, budget.upper) | best(s, budget.lower)
    return keep & valid[..., None]


def top_p(s: Tensor, valid: Tensor, budget: Budget) -> Tensor:
    """A token's best experts until their scores sum to the level, at least one."""
    ordered, order = s.sort(dim=-1, descending=True, stable=True)
    keep = _mass_before(ordered) < budget.level
    keep[..., 0] = True
    return torch.zeros_like(keep).scatter(-1, order, keep) & valid[..., None]


def expert_choice(s: Tensor, valid: Tensor, budget: Budget) -> Tensor:
    """Each expert takes its best ceil(K n / E) of the n tokens of a sequence; looks at later tokens."""
    experts = s.shape[-1]
    capacity = (budget.K * valid.sum(1) + experts - 1) // experts
    columns = s.masked_fill(~valid[..., None], -math.inf).transpose(1, 2).contiguous()
    return best(columns, capacity[:, None].expand(-1, experts)).transpose(1, 2)


def expert_choice_batch(s: Tensor, valid: Tensor, budget: Budget) -> Tensor:
    """The same among all sequences' tokens; looks at later tokens."""
    return expert_choice(s.view(1, -1, s.shape[-1]), valid.view(1, -1), budget).view_as(s)


def relu(s: Tensor, valid: Tensor, budget: Budget) -> Tensor:
    """Positive scores (ReMoE), whose number a loss term steers."""
    return (s > 0) & valid[..., None]


RULES: dict[str, Callable[[Tensor, Tensor, Budget], Tensor]] = {
    "topk": topk,
    "seqtopk": seqtopk,
    "batchtopk": batchtopk,
    "threshold": threshold,
    "top-p": top_p,
    "expert-choice": expert_choice,
    "expert-choice-batch": expert_choice_batch,
    "relu": relu,
}
WITH_LEVEL = ("threshold", "top-p")


# Budgets --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def calibrated_level(
    scores: Tensor, K: int, kind: str, lower: int = 1, upper: int | None = None, valid: Tensor | None = None
) -> float:
    """The level at which `threshold` or `top-p` keeps K experts a token on average of these scores (B, T, E).

    Both are a threshold on a pool: of scores within the bounds, or of the mass that a token's better experts have.
    Infinite where the bounds leave nothing to choose.
    """
    rows = scores.detach()[valid] if valid is not None else scores.detach().flatten(0, 1)
    rows = rows if rows.dtype == torch.float64 else rows.float()
    experts = rows.shape[-1]
    lower, upper = check_bounds(K, experts, lower, upper)
    if kind == "threshold":
        pool, n = ascending(rows)[:, experts - upper : experts - lower].flatten(), (K - lower) * len(rows)
    elif kind == "top-p":
        pool, n = -_mass_before(rows.sort(-1, descending=True).values).flatten(), K * len(rows)
    else:
        raise ValueError(f"router {kind!r} has no level; threshold and top-p have one")
    if n == 0:
        return math.inf
    ends = torch.stack([nth_largest(pool, n), nth_largest(pool, min(n + 1, len(pool)))])
    between = float(ends.mean())
    return between if kind == "threshold" else -between


def nested_budgets(K: int) -> list[int]:
    """K, K/2, ..., 1: the budgets that MRL-TopK trains at once (losses averaged), so that it works at each of them.

    The paper names the baseline without its form; this is the Matryoshka scheme, an assumption.
    """
    return [K >> shift for shift in range(K.bit_length())]


def _mass_before(descending: Tensor) -> Tensor:
    """The sum of a row's larger scores, for each score."""
    return descending.cumsum(-1) - descending


def _unpack(scores: Tensor, cu_seqlens: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sequences laid end to end as a padded batch (S, longest, E) with its valid positions (S, longest)."""
    rows = scores.reshape(-1, scores.shape[-1])
    bounds = cu_seqlens.to(scores.device).long()
    lengths = bounds.diff()
    if valid is not None:
        raise ValueError("cu_seqlens and valid: sequences that are laid end to end have no padding; pass one of them")
    if len(bounds) < 2 or int(bounds[0]) != 0 or int(bounds[-1]) != len(rows) or bool((lengths < 0).any()):
        raise ValueError(f"cu_seqlens is {cu_seqlens.tolist()}; it must rise from 0 to the {len(rows)} tokens")
    inside = torch.arange(int(lengths.max()), device=scores.device) < lengths[:, None]
    padded = rows.new_zeros(*inside.shape, rows.shape[1])
    padded[inside] = rows.detach()
    return padded, inside
