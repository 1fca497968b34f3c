"""SeqTopK: experts are given to a sequence, not to each token ("Route Experts by Sequence, not by Token",
https://arxiv.org/abs/2511.06494).

A router scores E experts for each token. TopK keeps the best K of each token. SeqTopK keeps the best K n scores of a
whole sequence of n tokens, so that a token may use more or fewer, within `lower` and `upper`:

    forced   each token's best `lower` experts
    spare    the best (K - lower) n of all scores with ranks `lower` + 1 to `upper` in their token
    mask     forced or spare, K n in all

TopK is the same rule with `lower = upper = K`. The rules it is compared with are in `routers.py`.

Everything here selects and nothing learns: masks carry no gradient, which reaches the router through `gate_weights`.
Ties go to the lower index (token first, then expert), on every device.
"""

import math

import numpy as np
import torch
from torch import Tensor

SCORES = ("softmax", "logits", "sigmoid")


def sequence_topk(s: Tensor, K: int, lower: int, upper: int, valid: Tensor) -> Tensor:
    """The best K n of each sequence of scores (B, n, E), `lower` to `upper` a token: bool (B, n, E).

    By one threshold a sequence. `valid` bool (B, n) is false at padding, which gets nothing and adds nothing to the
    budget. Scores are finite and without gradient, bounds as `check_bounds` gives them.
    """
    experts, padded = s.shape[-1], not valid.all()
    ordered = ascending(s)
    candidates = ordered[..., experts - upper : experts - lower]
    if padded:
        candidates = candidates.masked_fill(~valid[..., None], -math.inf)
    spare = (K - lower) * valid.sum(1)
    # One level a token in place of three comparisons of all scores: (s >= tau and among `upper`) or among `lower`.
    level = nth_largest(candidates.flatten(1), spare)[:, None]
    if upper < experts:
        level = level.maximum(ordered[..., experts - upper])
    if lower:
        level = level.minimum(ordered[..., experts - lower])
    if padded:
        level = level.masked_fill(~valid, math.inf)
    keep = s >= level[..., None]
    # The true selection is a part of `keep`: equal size means that no tie lies on a border.
    if int(keep.sum()) == K * int(valid.sum()):
        return keep
    forced = best(s, lower)
    candidates = s.masked_fill(~(best(s, upper) & ~forced & valid[..., None]), -math.inf)
    return forced & valid[..., None] | best(candidates.flatten(1), spare).view_as(s)


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


# Scores and weights ---------------------------------------------------------------------------------------------------


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


# Ranks ----------------------------------------------------------------------------------------------------------------


def best(values: Tensor, n: int | Tensor) -> Tensor:
    """The `n` largest of each row of `values` (..., M), ties to the lower index; `n` an integer or int64 (...)."""
    tau = nth_largest(values, n)[..., None]
    above, ties = values > tau, values == tau
    missing = torch.as_tensor(n, device=values.device)[..., None] - above.sum(-1, keepdim=True)
    return above | ties & (ties.cumsum(-1) <= missing)


def ascending(s: Tensor) -> Tensor:
    """Rows sorted. numpy's sort of short rows is vectorised and takes a tenth of torch's top-k on a processor."""
    if s.device.type == "cpu":
        return torch.from_numpy(np.sort(s.numpy(), axis=-1))
    return s.sort(-1).values


def nth_largest(values: Tensor, n: int | Tensor) -> Tensor:
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
    numbers = {n} if isinstance(n, int) else set(n.flatten().tolist())
    for number in numbers - {0}:
        same = slice(None) if len(numbers) == 1 else (wanted == number).numpy()
        place = rows.shape[1] - number
        result[same] = torch.from_numpy(np.partition(rows.numpy()[same], place, axis=-1)[:, place])
    return result.view(values.shape[:-1])
