"""The layer of experts beside one token and one expert at a time, and its router options."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.seqtopk.moe import Experts, MoE
from methods.seqtopk.router import router_scores
from methods.seqtopk.routers import route


def one_at_a_time(experts: Experts, x: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for token in range(len(x)):
        total = torch.zeros_like(x[token])
        for expert in mask[token].nonzero().flatten().tolist():
            gate, up = (experts.gate_up_proj[expert] @ x[token]).chunk(2)
            total = total + weights[token, expert] * (experts.down_proj[expert] @ (F.silu(gate) * up))
        rows.append(total)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["topk", "seqtopk", "none"])
def test_packed_experts_are_single_experts_summed(kind):
    torch.manual_seed(0)
    experts = Experts(6, 8, 5).double()
    x = torch.randn(10, 8, dtype=torch.float64, requires_grad=True)
    p = torch.randn(10, 6, dtype=torch.float64).softmax(-1).requires_grad_()
    mask = torch.zeros(10, 6, dtype=torch.bool) if kind == "none" else route(p[None], 2, kind, lower=0)[0]
    inputs = [x, p, *experts.parameters()]
    results = []
    for form in (experts, lambda *args: one_at_a_time(experts, *args)):
        y = form(x, p * mask, mask)
        gradients = torch.autograd.grad((y * y.detach().cos()).sum() + 0 * sum(i.sum() for i in inputs), inputs)
        results.append([y, *gradients])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("score", ["softmax", "logits", "sigmoid"])
def test_experts_are_ranked_by_a_score_and_weighted_by_softmax(score):
    torch.manual_seed(0)
    layer = MoE(8, experts=6, width=4, K=2, router="seqtopk", score=score)
    layer.gate.weight.data *= 30
    x = torch.randn(2, 12, 8)
    layer(x)
    logits = layer.gate(x).detach()
    assert torch.equal(layer.routed.mask, route(router_scores(logits, score), 2))
    torch.testing.assert_close(layer.routed.weights, logits.softmax(-1) * layer.routed.mask)


@pytest.mark.parametrize("router", ["topk", "seqtopk", "relu", "top-p"])
def test_the_gate_scale_multiplies_the_output_whatever_the_router(router):
    x = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    outputs = []
    for scale in (1.0, 4.0):
        torch.manual_seed(0)
        layer = MoE(8, experts=6, width=5, K=2, router=router, gate_scale=scale)
        outputs.append(layer(x))
    torch.testing.assert_close(outputs[1], 4 * outputs[0])


def test_padding_gets_no_expert():
    layer = MoE(8, experts=6, width=4, K=2)
    valid = torch.tensor([[True, True, True, False]])
    out = layer(torch.randn(1, 4, 8), valid)
    assert not out[0, 3].any()
    assert layer.routed.mask.sum() == 6


@pytest.mark.parametrize("router", ["topk", "seqtopk", "batchtopk", "threshold", "top-p", "expert-choice", "relu"])
def test_causal_routing_of_a_token_does_not_depend_on_later_ones(router):
    torch.manual_seed(0)
    layer = MoE(8, experts=6, width=4, K=2, router=router)
    layer.gate.weight.data *= 10
    layer.train()
    x = torch.randn(2, 12, 8)
    layer(x)  # a level is learnt in training
    layer.eval()
    other = torch.cat([x[:, :7], torch.randn(2, 5, 8)], dim=1)
    torch.testing.assert_close(layer(x, causal=True)[:, :7], layer(other, causal=True)[:, :7])


def test_a_level_follows_the_budget_in_training_and_rests_in_evaluation():
    torch.manual_seed(0)
    layer = MoE(8, experts=16, width=4, K=3, router="threshold")
    x = torch.randn(4, 32, 8)
    assert math.isnan(layer.level)
    layer.train()(x)
    assert layer.routed.mask.sum() == 3 * 4 * 32
    level = layer.level.item()
    layer.eval()(2 * x)
    assert layer.level.item() == level
    layer.train()(2 * x)
    assert layer.level.item() != level
    layer.set_router("topk", 2)
    layer.set_router("threshold", 3)
    assert layer.level.isfinite()


def test_at_k_1_nothing_is_left_to_a_level():
    layer = MoE(8, experts=6, width=4, K=1, router="threshold").train()
    for _ in range(2):
        layer(torch.randn(2, 5, 8))
        assert layer.level.isinf()
        assert (layer.routed.mask.sum(-1) == 1).all()


def test_gradients_reach_the_router_through_the_weights():
    layer = MoE(8, experts=6, width=4, K=2, shared_width=3)
    layer(torch.randn(2, 5, 8)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_an_unknown_router_is_refused_before_anything_changes():
    layer = MoE(8, experts=6, width=4, K=2)
    for arguments, words in (
        (("best", 2), "choose from"),
        (("topk", 7), "K is 7"),
        (("seqtopk", 3, 1, 2), "upper is 2"),
    ):
        with pytest.raises(ValueError, match=words):
            layer.set_router(*arguments)
    assert (layer.router, layer.K) == ("seqtopk", 2)
