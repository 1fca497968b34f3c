"""Routing: the laws that the rules obey, and what bad input gets."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from methods.seqtopk.router import router_scores
from methods.seqtopk.routers import calibrated_level, nested_budgets, route

SHAPES = [(2, 9, 6, 2, 1, 4), (3, 16, 16, 4, 1, 6), (1, 5, 8, 1, 0, 8), (2, 7, 5, 3, 2, 3)]


def random_scores(batch: int, tokens: int, experts: int, seed: int = 0, levels: int = 0) -> Tensor:
    """Softmax rows; with `levels`, of few distinct values, so that ties abound."""
    generator = torch.Generator().manual_seed(seed)
    if levels:
        return torch.randint(1, levels + 1, (batch, tokens, experts), generator=generator) / 8
    return (2 * torch.randn(batch, tokens, experts, generator=generator)).softmax(-1)


def random_padding(batch: int, tokens: int, seed: int = 0) -> Tensor:
    """Right padding of different lengths, none for the first sequence."""
    lengths = torch.randint(1, tokens + 1, (batch,), generator=torch.Generator().manual_seed(seed))
    lengths[0] = tokens
    return torch.arange(tokens) < lengths[:, None]


@pytest.mark.parametrize(("batch", "tokens", "experts", "K", "lower", "upper"), SHAPES)
def test_the_budget_is_met_exactly_within_the_bounds(batch, tokens, experts, K, lower, upper):
    valid = random_padding(batch, tokens, seed=1)
    counts = route(random_scores(batch, tokens, experts), K, "seqtopk", lower, upper, valid).sum(-1)
    assert torch.equal(counts.sum(1), K * valid.sum(1))
    assert counts[valid].min() >= lower
    assert counts[valid].max() <= upper
    assert not counts[~valid].any()


def test_bounds_at_k_give_topk_and_so_does_one_token_and_k_1():
    scores = random_scores(3, 10, 8)
    topk = route(scores, 3, "topk")
    assert (topk.sum(-1) == 3).all()
    assert torch.equal(route(scores, 3, lower=3), topk)
    assert torch.equal(route(scores, 3, upper=3), topk)
    assert torch.equal(route(scores, 1), route(scores, 1, "topk"))
    assert not torch.equal(route(scores, 1, lower=0), route(scores, 1, "topk"))
    one = scores[:, :1]
    assert torch.equal(route(one, 3), route(one, 3, "topk"))
    assert torch.equal(route(one, 3, lower=0, upper=8), route(one, 3, "topk"))


@pytest.mark.parametrize("kind", ["topk", "seqtopk", "batchtopk", "expert-choice"])
def test_the_order_of_tokens_and_experts_carries_no_meaning(kind):
    scores = random_scores(2, 12, 8)
    tokens, experts = torch.randperm(12), torch.randperm(8)
    moved = route(scores[:, tokens][..., experts], 2, kind)
    assert torch.equal(moved, route(scores, 2, kind)[:, tokens][..., experts])


def test_freer_rules_keep_more_of_the_routers_mass():
    flat = torch.where(torch.arange(20) % 2 == 0, 0.1, 1.0)[:, None]
    scores = (flat * 3 * torch.randn(4, 20, 16, generator=torch.Generator().manual_seed(0))).softmax(-1)
    rules = [("topk", 1, 4), ("seqtopk", 1, 4), ("seqtopk", 0, 16), ("batchtopk", 0, 16)]
    kept = [(scores * route(scores, 2, kind, lower, upper)).sum().item() for kind, lower, upper in rules]
    assert kept == sorted(kept)
    assert kept[0] < kept[1] < kept[2] < kept[3]


def test_a_sequence_does_not_depend_on_its_neighbours_in_the_batch():
    scores = random_scores(3, 10, 8)
    alone = route(scores[1:2], 2)
    assert torch.equal(route(scores, 2)[1:2], alone)
    other = torch.cat([scores[:1] ** 8, scores[1:]])
    assert torch.equal(route(other, 2)[1:2], alone)
    assert not torch.equal(route(other, 2, "batchtopk")[1:2], route(scores, 2, "batchtopk")[1:2])


@pytest.mark.parametrize("kind", ["seqtopk", "batchtopk", "expert-choice", "expert-choice-batch", "topk"])
def test_padding_on_either_side_changes_nothing_even_if_it_is_not_a_number(kind):
    scores = random_scores(2, 8, 6)
    right = torch.cat([scores, torch.full((2, 3, 6), math.nan)], dim=1)
    valid = torch.arange(11) < torch.tensor([8, 8])[:, None]
    padded = route(right, 2, kind, valid=valid)
    assert torch.equal(padded[:, :8], route(scores, 2, kind))
    assert not padded[:, 8:].any()
    left = route(right.roll(3, 1), 2, kind, valid=valid.roll(3, 1))
    assert torch.equal(left[:, 3:], route(scores, 2, kind))


def test_sequences_end_to_end_are_routed_like_separate_ones():
    scores = random_scores(1, 20, 8)[0]
    bounds = torch.tensor([0, 3, 3, 11, 20])
    packed = route(scores, 2, cu_seqlens=bounds)
    separate = [route(scores[None, a:b], 2)[0] for a, b in itertools.pairwise(bounds) if a < b]
    assert torch.equal(packed, torch.cat(separate))


def test_seqtopk_looks_at_later_tokens():
    scores = random_scores(1, 10, 8)
    whole = route(scores, 2)[:, :5]
    assert not torch.equal(route(scores[:, :5], 2), whole)
    assert torch.equal(route(scores[:, :5], 2, "topk"), route(scores, 2, "topk")[:, :5])


def test_a_padded_sequence_gets_nothing_and_disturbs_nobody():
    scores = random_scores(2, 6, 4)
    valid = torch.tensor([[True] * 6, [False] * 6])
    mask = route(scores, 2, valid=valid)
    assert not mask[1].any()
    assert mask[0].sum() == 12


@pytest.mark.parametrize("kind", ["threshold", "top-p"])
def test_a_calibrated_level_meets_the_budget(kind):
    scores = random_scores(4, 32, 16, seed=3)
    for K in (1, 2, 5):
        free = {"lower": 0, "upper": 16}
        level = calibrated_level(scores, K, kind, **free)
        assert route(scores, K, kind, **free, level=level).sum() == K * 4 * 32
    bounded = route(scores, 3, "threshold", level=calibrated_level(scores, 3, "threshold"))
    assert bounded.sum() == 3 * 4 * 32
    assert bounded.sum(-1).max() <= 5


def test_every_expert_takes_its_share():
    scores, valid = random_scores(3, 12, 8), random_padding(3, 12)
    loads = route(scores, 2, "expert-choice", valid=valid).sum(1)
    assert torch.equal(loads, ((2 * valid.sum(1) + 7) // 8)[:, None].expand(-1, 8))


def test_top_p_keeps_the_shortest_prefix_that_holds_the_mass():
    scores = torch.tensor([[[0.5, 0.3, 0.15, 0.05], [0.97, 0.01, 0.01, 0.01]]])
    assert route(scores, 2, "top-p", level=0.7).sum(-1).tolist() == [[2, 1]]
    assert route(scores, 2, "top-p", level=0.0).sum(-1).tolist() == [[1, 1]]


def test_relu_runs_what_is_positive():
    gates = torch.tensor([[[0.0, 1.0, 0.2], [0.0, 0.0, 0.0]]])
    assert route(gates, 1, "relu").sum(-1).tolist() == [[2, 0]]


def test_ranking_by_logits_or_softmax_differs_across_tokens_only():
    logits = 3 * torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(1))
    by = {score: router_scores(logits, score) for score in ("softmax", "logits", "sigmoid")}
    assert torch.equal(route(by["softmax"], 2, "topk"), route(by["logits"], 2, "topk"))
    assert not torch.equal(route(by["softmax"], 2), route(by["logits"], 2))
    assert torch.equal(route(by["sigmoid"], 2), route(by["logits"], 2))
    shifted = router_scores(logits + torch.randn(1, 16, 1))
    assert torch.equal(route(shifted, 2), route(by["softmax"], 2))


def test_nested_budgets_halve():
    assert nested_budgets(8) == [8, 4, 2, 1]
    assert nested_budgets(1) == [1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"K": 9}, "K is 9; each token needs between 1 and 8"),
        ({"K": 0}, "K is 0"),
        ({"K": 3, "upper": 2}, "cannot hold a budget of K = 3"),
        ({"K": 2, "lower": -1}, "lower is -1"),
        ({"K": 2, "kind": "seq-top-k"}, "choose from topk, seqtopk"),
        ({"K": 2, "kind": "threshold"}, "calibrated_level"),
        ({"K": 2, "valid": torch.ones(2, 3, dtype=torch.bool)}, "expected \\(2, 5\\)"),
        ({"K": 2, "cu_seqlens": torch.tensor([0, 4])}, "rise from 0 to the 10 tokens"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments, words):
    with pytest.raises(ValueError, match=words) as problem:
        route(random_scores(2, 5, 8), **arguments)
    assert "\n" not in str(problem.value)


def test_scores_that_are_no_numbers_are_refused():
    scores = random_scores(2, 5, 8)
    scores[1, 2, 3] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        route(scores, 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("kind", ["topk", "seqtopk", "batchtopk", "expert-choice", "expert-choice-batch"])
def test_cuda_selects_what_the_processor_selects_ties_included(kind, levels):
    scores, valid = random_scores(4, 50, 16, levels=levels), random_padding(4, 50)
    there = route(scores.cuda(), 3, kind, valid=valid.cuda())
    assert torch.equal(there.cpu(), route(scores, 3, kind, valid=valid))
