"""The mixture-of-experts layer: SwiGLU experts, computed together, whichever tokens the router gave them."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .online import online_mask
from .router import check_bounds, gate_weights, router_scores
from .routers import RULES, WITH_LEVEL, calibrated_level, route

# Training keeps the level of a rule that has one at the budget, as a running mean with this step.
LEVEL_STEP = 0.1


class Experts(nn.Module):
    """E experts `down(silu(gate h) * up h)`. Parameters as in the Hugging Face package: gate and up in one.

    gate_up_proj (E, 2 f, d), down_proj (E, d, f).
    """

    def __init__(self, experts: int, d: int, f: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(experts, 2 * f, d) / d**0.5)
        self.down_proj = nn.Parameter(0.5 * torch.randn(experts, d, f) / f**0.5)

    def forward(self, x: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
        """`sum_e w_e expert_e(x)` for tokens x (N, d), weights (N, E) and the selection mask (N, E)."""
        expert, token = mask.t().nonzero(as_tuple=True)  # sorted by expert
        loads = mask.sum(0).tolist()
        # One gather and one scatter for all; between them each expert multiplies its own stretch. Padding the stretches
        # for one batched product costs as much as the busiest expert does.
        gate, up = _by_stretch(x.index_select(0, token), loads, self.gate_up_proj).chunk(2, dim=-1)
        y = _by_stretch(F.silu(gate) * up, loads, self.down_proj) * weights[token, expert][:, None]
        return torch.zeros_like(x).index_add(0, token, y)


def _by_stretch(rows: Tensor, loads: list[int], matrices: Tensor) -> Tensor:
    """Stretches of rows (sum of loads, a), each times the transpose of its own of `matrices` (E, b, a)."""
    stretches = zip(rows.split(loads), matrices.unbind(), strict=True)
    return torch.cat([stretch @ matrix.t() for stretch, matrix in stretches])


class SharedExpert(nn.Module):
    """A SwiGLU that every token uses."""

    def __init__(self, d: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(d, width, bias=False)
        self.up_proj = nn.Linear(d, width, bias=False)
        self.down_proj = nn.Linear(width, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


@dataclass
class Routed:
    """What a layer's router did with a batch: logits, selection, weights and the values they come from (B, T, E)."""

    logits: Tensor
    p: Tensor
    mask: Tensor
    weights: Tensor


class MoE(nn.Module):
    """Router and experts, with a gated shared expert if `shared_width` > 0 (Qwen).

    `router` is a kind of `route`. Weights are the softmax values of the selected experts, with `relu` relu(logits),
    divided by their sum if `normalise`, times `gate_scale`. Names of parameters are the Hugging Face
    package's. `routed` keeps the last batch's selection, for losses and reports.
    """

    level: Tensor
    routed: Routed

    def __init__(
        self,
        d: int,
        *,
        experts: int,
        width: int,
        K: int,
        router: str = "seqtopk",
        score: str = "softmax",
        lower: int = 1,
        upper: int | None = None,
        shared_width: int = 0,
        normalise: bool = False,
        gate_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.score, self.normalise, self.gate_scale = score, normalise, gate_scale
        self.gate = nn.Linear(d, experts, bias=False)
        nn.init.normal_(self.gate.weight, std=0.1)
        self.experts = Experts(experts, d, width)
        if shared_width:
            self.shared_expert = SharedExpert(d, shared_width)
            self.shared_expert_gate = nn.Linear(d, 1, bias=False)
        self.set_router(router, K, lower, upper)

    def set_router(self, router: str, K: int, lower: int = 1, upper: int | None = None) -> None:
        """Route by this rule from now on. Raises ValueError for an unknown rule, budget or bounds."""
        if router not in RULES:
            raise ValueError(f"router is {router!r}; choose from {', '.join(RULES)}")
        check_bounds(K, self.gate.out_features, lower, upper)
        self.router, self.K, self.lower, self.upper = router, K, lower, upper
        if router in WITH_LEVEL and not hasattr(self, "level"):
            self.register_buffer("level", torch.tensor(math.nan, device=self.gate.weight.device))

    def forward(self, x: Tensor, valid: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, T, d) to (B, T, d); padding of `valid` bool (B, T) gets no expert."""
        logits = self.gate(x)
        p = logits.relu() if self.router == "relu" else router_scores(logits)
        scores = p if self.router == "relu" or self.score == "softmax" else router_scores(logits, self.score)
        mask = self._select(scores.detach(), valid, causal)
        weights = gate_weights(p, mask, self.normalise) * self.gate_scale
        self.routed = Routed(logits, p, mask, weights)
        y = self.experts(x.flatten(0, 1), weights.flatten(0, 1), mask.flatten(0, 1)).view_as(x)
        if hasattr(self, "shared_expert"):
            y = y + self.shared_expert_gate(x).sigmoid() * self.shared_expert(x)
        return y

    def _select(self, scores: Tensor, valid: Tensor | None, causal: bool) -> Tensor:
        K, kind, bounds = self.K, self.router, (self.lower, self.upper, valid)
        if causal and kind in ("seqtopk", "batchtopk"):
            return online_mask(scores, K, *bounds)
        if causal and kind in ("expert-choice", "expert-choice-batch"):
            # An expert cannot choose among tokens that are not there yet: each token takes its own best.
            return route(scores, K, "topk", valid=valid)
        if kind not in WITH_LEVEL:
            return route(scores, K, kind, *bounds)
        if self.training:
            now = scores.new_tensor(calibrated_level(scores, K, kind, *bounds))
            old = now if bool(self.level.isnan()) else self.level
            # Where nothing is to choose the level is infinite, and inf - inf is no number.
            self.level = now if bool(now.isinf()) else old + LEVEL_STEP * (now - old)
        return route(scores, K, kind, *bounds, level=float(self.level))
