"""Which experts a token uses: SeqTopK, and the routers that it is compared with, at an equal budget.

A router scores E experts for each token. TopK keeps the best K of each token. SeqTopK ("Route Experts by Sequence, not
by Token", https://arxiv.org/abs/2511.06494) keeps the best K n scores of a whole sequence of n tokens, so that a token
may use more or fewer, within `lower` and `upper`. With these rows of SeqTopK and TopK are one rule: TopK is
`lower = upper = K`.

Everything here selects and nothing learns: masks carry no gradient, which reaches the router through `gate_weights`.
Ties go to the lower place (token first, then expert), on every device.
"""

import math

import numpy as np
import torch
from torch import Tensor

KINDS = (
    "topk",
    "seqtopk",
    "batchtopk",
    "threshold",
    "top-p",
    "expert-choice",
    "expert-choice-batch",
    "relu",
)
SCORES = ("softmax", "logits", "sigmoid")


def router_scores(logits: Tensor, score: str = "softmax") -> Tensor:
    """What experts are ranked by, from router logits (..., E), at float32 or better: bfloat16 would make ties.

    Softmax values, the default, are also the weights; raw logits rank differently across tokens, since softmax
    does not see a shift of a token's logits.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if score == "softmax":
        return logits.softmax(-1)
    if score == "sigmoid":
        return logits.sigmoid()
    if score == "logits":
        return logits
    raise ValueError(f"score is {score!r}; choose from {', '.join(SCORES)}")


def gate_weights(p: Tensor, mask: Tensor, normalise: bool = False) -> Tensor:
    """Weights of the selected experts (..., E): `p` where `mask` is true, 0 elsewhere.

    `normalise` divides by a token's sum (Mixtral, Qwen3); a token without experts keeps zeros.
    """
    weights = p * mask
    if not normalise:
        return weights
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total == 0, torch.ones_like(total), total)


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
    end to end. `valid` bool (B, T) is false at padding, which gets nothing and adds nothing to a budget.

    | kind | rule | looks at later tokens |
    |---|---|---|
    | topk | the best K of each token | no |
    | seqtopk | the best K n of a sequence of n tokens, `lower` to `upper` a token | yes |
    | batchtopk | the same with all sequences as one pool | yes |
    | threshold | scores above `level`, `lower` to `upper` a token; `calibrated_level` gives the level | no |
    | top-p | a token's best experts until their scores sum to `level`, at least one | no |
    | expert-choice | each expert takes its best ceil(K n / E) tokens of a sequence | yes |
    | expert-choice-batch | the same among all sequences' tokens | yes |
    | relu | positive scores (ReMoE), whose number a loss term steers | no |

    `upper` is K + 2 if absent. Bounds are clipped to what can hold (`lower` to K, `upper` to E); `lower=0, upper=E` is
    free of them. Raises ValueError for K outside 1..E, bounds that cannot hold the budget, scores of valid tokens that
    are not finite, and shapes that do not fit.
    """
    if cu_seqlens is not None:
        padded, valid = _unpack(scores, cu_seqlens, valid)
        return route(padded, K, kind, lower, upper, valid, None, level)[valid].view(scores.shape)
    if kind not in KINDS:
        raise ValueError(f"router is {kind!r}; choose from {', '.join(KINDS)}")
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

    if kind == "topk":
        return _pooled(s, K, K, K, valid)
    if kind == "seqtopk":
        return _pooled(s, K, lower, upper, valid)
    if kind == "batchtopk":
        pool = _pooled(s.view(1, -1, experts), K, lower, upper, valid.view(1, -1))
        return pool.view_as(s)
    if kind == "expert-choice":
        return _expert_choice(s, K, valid)
    if kind == "expert-choice-batch":
        return _expert_choice(s.view(1, -1, experts), K, valid.view(1, -1)).view_as(s)
    if kind == "relu":
        return (s > 0) & valid[..., None]
    if level is None:
        raise ValueError(f"router {kind!r} needs a level: calibrated_level(scores, K, {kind!r}) gives one")
    if kind == "top-p":
        return _top_p(s, level) & valid[..., None]
    keep = (s > level) & best(s, upper) | best(s, lower)
    return keep & valid[..., None]


def check_bounds(K: int, experts: int, lower: int = 1, upper: int | None = None) -> tuple[int, int]:
    """The bounds on a token's experts, clipped to `lower <= K <= upper <= experts`.

    Raises ValueError where K or the bounds make no sense.
    """
    if not 1 <= K <= experts:
        raise ValueError(f"K is {K}; each token needs between 1 and {experts} of {experts} experts")
    upper = K + 2 if upper is None else upper
    if lower < 0:
        raise ValueError(f"lower is {lower}; a token cannot use fewer than 0 experts")
    if upper < K:
        raise ValueError(f"upper is {upper}, which cannot hold a budget of K = {K} experts a token; take {K} or more")
    return min(lower, K), min(upper, experts)


def best(values: Tensor, n: int | Tensor) -> Tensor:
    """The `n` largest of each row of `values` (..., M), ties to the lower place; `n` an integer or int64 (...)."""
    tau = _nth_largest(values, n)[..., None]
    above, ties = values > tau, values == tau
    missing = torch.as_tensor(n, device=values.device)[..., None] - above.sum(-1, keepdim=True)
    return above | ties & (ties.cumsum(-1) <= missing)


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
        pool, n = _ascending(rows)[:, experts - upper : experts - lower].flatten(), (K - lower) * len(rows)
    elif kind == "top-p":
        pool, n = -_mass_before(rows.sort(-1, descending=True).values).flatten(), K * len(rows)
    else:
        raise ValueError(f"router {kind!r} has no level; threshold and top-p have one")
    if n == 0:
        return math.inf
    ends = torch.stack([_nth_largest(pool, n), _nth_largest(pool, min(n + 1, len(pool)))])
    between = float(ends.mean())
    return between if kind == "threshold" else -between


def nested_budgets(K: int) -> list[int]:
    """K, K/2, ..., 1: the budgets that MRL-TopK trains at once (losses averaged), so that it works at each of them.

    The paper names the baseline without its form; this is the Matryoshka scheme, an assumption.
    """
    return [K >> shift for shift in range(K.bit_length())]


# Inside ---------------------------------------------------------------------------------------------------------------


def _pooled(s: Tensor, K: int, lower: int, upper: int, valid: Tensor) -> Tensor:
    """The best K n of each pool (P, n, E), `lower` to `upper` a token, by one threshold a pool.

    Each token's best `lower` are kept, and of the ranks `lower` to `upper` the best of the pool fill its budget.
    """
    experts = s.shape[-1]
    ordered = _ascending(s)
    places = ordered[..., experts - upper : experts - lower]
    if not valid.all():
        places = places.masked_fill(~valid[..., None], -math.inf)
    spare = (K - lower) * valid.sum(1)
    keep = s >= _nth_largest(places.flatten(1), spare)[:, None, None]
    if upper < experts:
        keep &= s >= ordered[..., experts - upper, None]
    if lower:
        keep |= s >= ordered[..., experts - lower, None]
    keep &= valid[..., None]
    # The true selection is a part of `keep`: equal size means that no tie lies on a border.
    if int(keep.sum()) == K * int(valid.sum()):
        return keep
    forced = best(s, lower)
    places = s.masked_fill(~(best(s, upper) & ~forced & valid[..., None]), -math.inf)
    return forced & valid[..., None] | best(places.flatten(1), spare).view_as(s)


def _expert_choice(s: Tensor, K: int, valid: Tensor) -> Tensor:
    """Each expert's best ceil(K n / E) of the n valid tokens of a pool (P, n, E)."""
    experts = s.shape[-1]
    capacity = (K * valid.sum(1) + experts - 1) // experts
    columns = s.masked_fill(~valid[..., None], -math.inf).transpose(1, 2).contiguous()
    return best(columns, capacity[:, None].expand(-1, experts)).transpose(1, 2)


def _top_p(s: Tensor, p: float) -> Tensor:
    ordered, order = s.sort(dim=-1, descending=True, stable=True)
    keep = _mass_before(ordered) < p
    keep[..., 0] = True
    return torch.zeros_like(keep).scatter(-1, order, keep)


def _mass_before(descending: Tensor) -> Tensor:
    """The sum of a row's larger scores, for each score."""
    return descending.cumsum(-1) - descending


def _ascending(s: Tensor) -> Tensor:
    """Rows sorted. numpy's sort of short rows is vectorised and takes a tenth of torch's top-k on a processor."""
    if s.device.type == "cpu":
        return torch.from_numpy(np.sort(s.numpy(), axis=-1))
    return s.sort(-1).values


def _nth_largest(values: Tensor, n: int | Tensor) -> Tensor:
    """The n-th largest of each row (..., M), n an integer or int64 (...); +inf where n is 0."""
    rows = values.flatten(0, -2) if values.dim() > 1 else values[None]
    wanted = torch.as_tensor(n, device=values.device).expand(values.shape[:-1]).reshape(-1)
    result = rows.new_full((len(rows),), math.inf)
    if values.device.type != "cpu":
        most = int(wanted.max()) if len(rows) else 0
        if most:
            found = rows.topk(most).values.gather(1, (wanted - 1).clamp(min=0)[:, None]).squeeze(1)
            result = torch.where(wanted > 0, found, result)
        return result.view(values.shape[:-1])
    # numpy selects several times faster than torch; one call serves all rows that want the same place.
    array, size = rows.numpy(), rows.shape[1]
    for number in wanted.unique().tolist():
        if number:
            place = size - number
            same = wanted == number
            chosen = array if bool(same.all()) else array[same.numpy()]
            result[same] = torch.from_numpy(np.partition(chosen, place, axis=-1)[:, place])
    return result.view(values.shape[:-1])


def _unpack(scores: Tensor, cu_seqlens: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sequences laid end to end as a padded batch (S, longest, E) with its valid places (S, longest)."""
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
