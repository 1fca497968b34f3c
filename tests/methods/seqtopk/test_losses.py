"""Balance, size and sparsity losses: values of even loads, what carries gradient, and padding."""

import pytest
import torch

from methods.seqtopk.losses import lb_from_mask, lb_hf, next_l1_weight, relu_l1, z_loss
from methods.seqtopk.routers import route


def random_logits(seed: int = 0, experts: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(18, experts, generator=generator) for _ in range(3)]


def test_an_even_load_gives_k():
    logits = [torch.zeros(16, 8)]
    even = torch.zeros(16, 8, dtype=torch.bool)
    for row in range(16):
        even[row, [row % 8, (row + 1) % 8]] = True
    assert lb_from_mask(logits, [even]).item() == pytest.approx(2.0)
    assert lb_hf(logits, 2).item() == pytest.approx(2.0)


def test_a_collapsed_router_costs_more_the_more_it_collapses():
    logits = torch.zeros(16, 8)
    costs = [lb_hf([logits + size * torch.eye(8)[0]], 1).item() for size in (0.0, 1.0, 4.0)]
    assert costs == sorted(costs)
    assert costs[2] > 5


def test_the_real_selection_is_counted_with_topk_masks_it_is_the_packages_loss():
    logits = random_logits()
    topk = [route(layer.softmax(-1)[None], 2, "topk")[0] for layer in logits]
    assert torch.equal(lb_from_mask(logits, topk), lb_hf(logits, 2))
    seqtopk = [route(layer.softmax(-1)[None], 2)[0] for layer in logits]
    assert lb_from_mask(logits, seqtopk) != lb_hf(logits, 2)


def test_padding_counts_for_nothing():
    logits = random_logits()
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[1, 4:] = False
    other = [layer.clone() for layer in logits]
    for layer in other:
        layer[13:] = 100.0
    assert torch.equal(lb_hf(logits, 2, valid), lb_hf(other, 2, valid))
    assert torch.equal(z_loss(logits, valid), z_loss(other, valid))
    assert z_loss(logits) != z_loss(other)
    with pytest.raises(ValueError, match="no valid token"):
        z_loss(logits, torch.zeros(2, 9, dtype=torch.bool))


def test_z_loss_pulls_logits_to_a_sum_of_one():
    logits = (torch.randn(6, 4) + 3).requires_grad_()
    z_loss([logits]).backward()
    assert (logits.grad > 0).all()
    assert z_loss([torch.randn(6, 4).log_softmax(-1)]).item() == pytest.approx(0.0, abs=1e-10)


def test_remoes_penalty_of_even_gates_is_a_tokens_sum_and_its_weight_follows_the_use():
    gates = torch.zeros(8, 8)
    for row in range(8):
        gates[row, [row, (row + 1) % 8]] = 0.5
    assert relu_l1([gates], 2).item() == pytest.approx(gates.sum(1).mean().item())
    assert next_l1_weight(1.0, used=5.0, K=2) == 1.2
    assert next_l1_weight(1.2, used=1.0, K=2) == pytest.approx(1.0)
