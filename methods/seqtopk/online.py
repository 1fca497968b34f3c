"""SeqTopK token by token: the causal form, for decoding and for honest numbers of language models.

Offline, a token's experts depend on later tokens. Online (paper, section on the expert cache), the token at position m
competes with all earlier ones for m K slots; what earlier tokens ran is not changed. The rule, exactly: a token's
experts are the last row of the offline selection among the first m tokens.

Only scores of the ranks `lower` to `upper` can compete, so a token leaves `upper - lower` numbers (K + 1 by default)
in the cache, not E. They are kept in sorted runs of doubling length, so that a step looks up and inserts in
O(K log(m K)) amortised.
"""

import math

import torch
from torch import Tensor

from .router import best, check_bounds
from .routers import route

MODES = ("virtual", "strict")


class OnlineState:
    """One layer's expert cache, for B sequences that are decoded side by side.

    mode `virtual` is the rule above: sequences may run a few experts more or fewer than m K in all. `strict` (ours)
    also caps a token at what is left of m K, never below `lower`.
    """

    def __init__(self, K: int, lower: int = 1, upper: int | None = None, mode: str = "virtual") -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; choose from {', '.join(MODES)}")
        self.K, self.lower, self.upper, self.mode = K, lower, upper, mode
        self.reset()

    def reset(self) -> None:
        """Forget all tokens."""
        self.runs: list[Tensor] = []  # each (B, length), ascending
        self.tokens = torch.zeros(0, dtype=torch.long)  # (B,): valid tokens so far
        self.used = self.tokens  # int64 (B,): experts that they ran

    def reorder(self, index: Tensor) -> None:
        """Keep the sequences `index` int64 (B',), in that order: what beam search does to every cache."""
        self.runs = [run[index] for run in self.runs]
        if len(self.tokens):
            self.tokens, self.used = self.tokens[index], self.used[index]

    @property
    def numbers(self) -> int:
        """How many scores are kept for a sequence: (upper - lower) a token."""
        return sum(run.shape[1] for run in self.runs)

    @torch.no_grad()
    def prefill(self, scores: Tensor, valid: Tensor | None = None) -> Tensor:
        """Route a prompt (B, T, E) by the offline rule, with its own budget; returns its mask (B, T, E)."""
        mask = route(scores, self.K, "seqtopk", self.lower, self.upper, valid)
        self._begin(scores)
        self.tokens = self.tokens + (scores.shape[1] if valid is None else valid.sum(1))
        self.used = self.used + mask.sum((1, 2))
        self._insert(self._candidates(scores, valid).flatten(1).sort(-1).values)
        return mask

    @torch.no_grad()
    def step(self, row: Tensor, valid: Tensor | None = None) -> Tensor:
        """Route one more token of each sequence: scores (B, E) to mask (B, E); `valid` bool (B,) is false at padding.

        Raises ValueError for another number of sequences than before, and for scores that are not finite.
        """
        if not math.isfinite(row.sum() if valid is None else row[valid].sum()):
            raise ValueError("router scores are not finite: look for NaN in the router's input or weights")
        self._begin(row)
        lower, upper = check_bounds(self.K, row.shape[-1], self.lower, self.upper)
        here = torch.ones_like(self.tokens) if valid is None else valid.long()
        past, self.tokens = self.tokens * (upper - lower), self.tokens + here
        own = self._candidates(row[:, None], None if valid is None else valid[:, None]).flatten(0, 1)

        # A past score that is equal comes first, and so do the token's own better ones.
        worse = sum((torch.searchsorted(run, own) for run in self.runs), torch.zeros_like(own, dtype=torch.long))
        padding = self.numbers - past[:, None]  # -inf that padding left is worse than anything
        ahead = past[:, None] - (worse - padding) + torch.arange(own.shape[1] - 1, -1, -1, device=row.device)
        count = lower + (ahead < (self.tokens * (self.K - lower))[:, None]).sum(1)
        if self.mode == "strict":
            count = torch.minimum(count, self.tokens * self.K - self.used).clamp(min=lower)
        count = count * here
        self.used = self.used + count
        self._insert(own)
        return best(row.detach(), count)

    def advance(self, scores: Tensor, valid: Tensor | None = None, together: int = 0) -> Tensor:
        """The masks (B, T, E) of new tokens: the first `together` by the offline rule, the others one by one."""
        valid = torch.ones_like(scores[..., 0], dtype=torch.bool) if valid is None else valid
        masks = [self.prefill(scores[:, :together], valid[:, :together])] if together else []
        for column in range(together, scores.shape[1]):
            masks.append(self.step(scores[:, column], valid[:, column])[:, None])
        return torch.cat(masks, dim=1)

    def _begin(self, scores: Tensor) -> None:
        if not len(self.tokens):
            self.tokens = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
            self.used = self.tokens.clone()
        elif len(self.tokens) != len(scores):
            raise ValueError(
                f"{len(scores)} sequences, but the cache holds {len(self.tokens)}: reset or reorder it first"
            )

    def _candidates(self, scores: Tensor, valid: Tensor | None) -> Tensor:
        """Scores of the ranks `lower` to `upper` of each token, ascending: (B, T, upper - lower)."""
        experts = scores.shape[-1]
        lower, upper = check_bounds(self.K, experts, self.lower, self.upper)
        scores = scores.detach() if scores.dtype == torch.float64 else scores.detach().float()
        kept = scores.topk(upper, dim=-1).values.flip(-1)[..., : upper - lower].contiguous()
        return kept if valid is None else kept.masked_fill(~valid[..., None], -math.inf)

    def _insert(self, run: Tensor) -> None:
        self.runs.append(run.contiguous())
        while len(self.runs) > 1 and self.runs[-2].shape[1] <= self.runs[-1].shape[1]:
            last = self.runs.pop()
            self.runs[-1] = torch.cat([self.runs[-1], last], dim=1).sort(-1).values


@torch.no_grad()
def online_mask(
    scores: Tensor,
    K: int,
    lower: int = 1,
    upper: int | None = None,
    valid: Tensor | None = None,
    prompt: int = 0,
    mode: str = "virtual",
) -> Tensor:
    """The masks (B, T, E) that decoding would give, from all scores (B, T, E) at once: teacher-forced evaluation.

    The first `prompt` positions are routed together by the offline rule.
    """
    return OnlineState(K, lower, upper, mode).advance(scores, valid, prompt)
