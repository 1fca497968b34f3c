"""The mixture-of-experts layer: SwiGLU experts, computed together, whichever tokens the router gave them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.seqtopk.router import check_bounds, gate_weights, route, router_scores


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
        loads = mask.sum(0)
        longest = int(loads.max())
        slot = torch.arange(len(expert), device=x.device) - (loads.cumsum(0) - loads)[expert]
        place = expert * longest + slot
        packed = x.new_zeros(len(loads) * longest, x.shape[1]).index_copy(0, place, x.index_select(0, token))
        gate, up = torch.bmm(packed.view(len(loads), longest, -1), self.gate_up_proj.transpose(1, 2)).chunk(2, dim=-1)
        y = torch.bmm(F.silu(gate) * up, self.down_proj.transpose(1, 2)).flatten(0, 1)
        y = y.index_select(0, place) * weights[token, expert][:, None]
        return torch.zeros_like(x).index_add(0, token, y)


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
    """What a layer's router did with a batch: logits, scores, mask and weights, each (B, T, E)."""

    logits: Tensor
    mask: Tensor
    weights: Tensor


class MoE(nn.Module):
    """Router and experts, with a gated shared expert if `shared_width` > 0 (Qwen).

    Names of parameters are the package's. `routed` keeps the last batch's selection, for losses and reports.
    """

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
    ) -> None:
        super().__init__()
        check_bounds(K, experts, lower, upper)
        self.K, self.router, self.score, self.lower, self.upper = K, router, score, lower, upper
        self.normalise = normalise
        self.gate = nn.Linear(d, experts, bias=False)
        self.experts = Experts(experts, d, width)
        if shared_width:
            self.shared_expert = SharedExpert(d, shared_width)
            self.shared_expert_gate = nn.Linear(d, 1, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, T, d) to (B, T, d); padding of `valid` bool (B, T) gets no expert."""
        logits = self.gate(x)
        p = router_scores(logits)
        mask = route(router_scores(logits, self.score), self.K, self.router, self.lower, self.upper, valid)
        weights = gate_weights(p, mask, self.normalise)
        self.routed = Routed(logits, mask, weights)
        y = self.experts(x.flatten(0, 1), weights.flatten(0, 1), mask.flatten(0, 1)).view_as(x)
        if hasattr(self, "shared_expert"):
            y = y + self.shared_expert_gate(x).sigmoid() * self.shared_expert(x)
        return y
