"""Speed of SeqTopK's selection, layer and decoding against obvious formulations: README.md records them.

One thread, float32, random data, no download. Alternatives take turns (A B A B) in one process; medians of processor
time, which a busy machine distorts less than wall time. Each comparison first checks that both give the same.

    python benchmarks/seqtopk.py                     # all; about a minute on an idle core
    python benchmarks/seqtopk.py selection decoding  # some of: selection, experts, layer, decoding
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from interleave import medians, run_parts
from torch import Tensor

from methods.seqtopk.moe import Experts, MoE
from methods.seqtopk.online import OnlineState
from methods.seqtopk.routers import route

BATCH, TOKENS, EXPERTS, K, WIDTH, INNER = 4, 1024, 64, 8, 64, 16
DECODED = 4096


def random_scores(*shape: int) -> Tensor:
    """Softmax rows, some peaked and some flat."""
    generator = torch.Generator().manual_seed(0)
    sharp = 3 * torch.rand(*shape[:-1], 1, generator=generator)
    return (sharp * torch.randn(*shape, generator=generator)).softmax(-1)


# The alternatives -----------------------------------------------------------------------------------------------------


def torch_topk(scores: Tensor) -> Tensor:
    """TopK as it is usually written."""
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(K, -1).indices, True)


def sorted_seqtopk(scores: Tensor, lower: int = 1, upper: int = K + 2) -> Tensor:
    """SeqTopK by sorting: ranks in each row, then a full stable sort of the sequence's candidates."""
    experts = scores.shape[-1]
    rank = scores.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    pool = scores.masked_fill(rank < lower, float("inf")).masked_fill(rank >= upper, -float("inf")).flatten(1)
    order = pool.argsort(dim=1, descending=True, stable=True)[:, : K * scores.shape[1]]
    return torch.zeros_like(pool, dtype=torch.bool).scatter_(1, order, True).view(*scores.shape[:-1], experts)


def looped_experts(experts: Experts, x: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """One expert after the other."""
    out = torch.zeros_like(x)
    for expert in range(mask.shape[1]):
        token = mask[:, expert].nonzero().squeeze(1)
        gate, up = F.linear(x[token], experts.gate_up_proj[expert]).chunk(2, dim=-1)
        y = F.linear(F.silu(gate) * up, experts.down_proj[expert])
        out = out.index_add(0, token, y * weights[token, expert][:, None])
    return out


class FullCache:
    """Online SeqTopK with all E scores of every token, selected anew at each step."""

    def __init__(self, batch: int, tokens: int, experts: int) -> None:
        self.scores, self.length = torch.zeros(batch, tokens, experts), 0

    def step(self, row: Tensor) -> Tensor:
        self.scores[:, self.length] = row
        self.length += 1
        return sorted_seqtopk(self.scores[:, : self.length])[:, -1]


# Measuring ------------------------------------------------------------------------------------------------------------


def report(what: str, times: Mapping[str, float]) -> None:
    """Print a row: the obvious form's time, ours, and their ratio."""
    first, ours = times.values()
    print(f"| {what} | {first:.2f} ms | {ours:.2f} ms | {first / ours:.2f} |", flush=True)


def selection() -> None:
    """SeqTopK's masks against torch's TopK, our own TopK and a full sort."""
    size = f"B = {BATCH}, T = {TOKENS}, E = {EXPERTS}, K = {K}"
    scores = random_scores(BATCH, TOKENS, EXPERTS)
    assert torch.equal(route(scores, K), sorted_seqtopk(scores))
    assert torch.equal(route(scores, K, "topk"), torch_topk(scores))
    ours = {"ours": lambda: route(scores, K)}
    report(
        f"selection, TopK with torch.topk / SeqTopK, {size}", medians({"topk": lambda: torch_topk(scores)} | ours, 31)
    )
    report("selection, TopK with our routine / SeqTopK", medians({"topk": lambda: route(scores, K, "topk")} | ours, 31))
    report("selection, SeqTopK with full sorts / ours", medians({"sort": lambda: sorted_seqtopk(scores)} | ours, 15))


def experts() -> None:
    """Packed experts against a loop, forward and backward."""
    torch.manual_seed(0)
    module = Experts(32, WIDTH, INNER)
    x = torch.randn(BATCH * 256, WIDTH, requires_grad=True)
    for k in (2, 4):
        p = random_scores(BATCH, 256, 32)
        mask = route(p, k).flatten(0, 1)
        weights = (p.flatten(0, 1) * mask).requires_grad_()
        arguments = (x, weights, mask)
        torch.testing.assert_close(module(*arguments), looped_experts(module, *arguments))
        times = medians(
            {
                "loop": lambda a=arguments: looped_experts(module, *a).sum().backward(),  # type: ignore[misc]
                "packed": lambda a=arguments: module(*a).sum().backward(),  # type: ignore[misc]
            },
            31,
        )
        report(f"experts, loop / packed, forward and backward, N = {len(x)}, E = 32, K = {k}, d = {WIDTH}", times)


def layer() -> None:
    """A whole layer with TopK against the same with SeqTopK, at equal budget."""
    torch.manual_seed(0)
    d, inner = 256, 128
    x = torch.randn(1, TOKENS, d)
    layers = {name: MoE(d, experts=EXPERTS, width=inner, K=K, router=name) for name in ("topk", "seqtopk")}
    layers["seqtopk"].load_state_dict(layers["topk"].state_dict())

    def training(router: str) -> Callable[[], None]:
        return lambda: layers[router](x).sum().backward()

    def inference(router: str) -> Callable[[], None]:
        @torch.no_grad()
        def forward() -> None:
            layers[router](x)

        return forward

    size = f"B = 1, T = {TOKENS}, E = {EXPERTS}, K = {K}, d = {d}"
    for name, kind, rounds in (("forward", inference, 41), ("forward and backward", training, 31)):
        report(f"layer, TopK / SeqTopK, {name}, {size}", medians({r: kind(r) for r in ("topk", "seqtopk")}, rounds))
    assert all(int(module.routed.mask.sum()) == K * TOKENS for module in layers.values())


def decoding() -> None:
    """A decoding step at the end of a long sequence, and what the cache holds."""
    scores = random_scores(1, DECODED, EXPERTS)
    state, full = OnlineState(K), FullCache(1, DECODED, EXPERTS)
    ours, theirs = [], []
    for place in range(DECODED):
        start = time.process_time()
        mask = state.step(scores[:, place])
        ours.append((time.process_time() - start) * 1e3)
        if place < DECODED - 64:
            full.scores[:, place], full.length = scores[:, place], place + 1
            continue
        start = time.process_time()
        other = full.step(scores[:, place])
        theirs.append((time.process_time() - start) * 1e3)
        assert torch.equal(mask, other)
    what = f"decoding step, all scores sorted / ours, at T = {DECODED}, E = {EXPERTS}, K = {K}"
    report(what, {"full": statistics.median(theirs), "ours": statistics.mean(ours[-1024:])})
    report("our decoding step, first 256 tokens / last 1024 (means)",
           {"first": statistics.mean(ours[8:256]), "last": statistics.mean(ours[-1024:])})  # fmt: skip
    kept, all_scores = state.numbers, full.scores.numel()
    print(f"| numbers in a layer's cache at T = {DECODED} | {all_scores} | {kept} | {all_scores / kept:.2f} |")


PARTS = {"selection": selection, "experts": experts, "layer": layer, "decoding": decoding}

if __name__ == "__main__":
    run_parts(PARTS)
