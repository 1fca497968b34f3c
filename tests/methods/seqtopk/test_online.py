"""Routing token by token: it is the offline rule's last row, it is causal, and its cache is small."""

import math

import pytest
import torch
from torch import Tensor

from methods.seqtopk.online import OnlineState, online_mask
from methods.seqtopk.routers import route

BOUNDS = [(1, 4), (0, 8), (2, 2), (1, 8)]


def random_scores(batch: int, tokens: int, experts: int = 8, seed: int = 0, levels: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if levels:
        return torch.randint(1, levels + 1, (batch, tokens, experts), generator=generator) / 8
    sharp = torch.linspace(3.0, 0.5, tokens)[:, None]
    return (sharp * torch.randn(batch, tokens, experts, generator=generator)).softmax(-1)


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize(("lower", "upper"), BOUNDS)
def test_a_tokens_experts_are_the_last_row_of_the_offline_rule(lower, upper, levels):
    scores = random_scores(3, 20, levels=levels)
    online = online_mask(scores, 2, lower, upper)
    for m in range(1, 21):
        assert torch.equal(online[:, m - 1], route(scores[:, :m], 2, "seqtopk", lower, upper)[:, -1]), m


def test_later_tokens_change_nothing():
    scores = random_scores(2, 16)
    other = torch.cat([scores[:, :9], random_scores(2, 7, seed=5)], dim=1)
    assert torch.equal(online_mask(scores, 2)[:, :9], online_mask(other, 2)[:, :9])
    assert not torch.equal(route(scores, 2)[:, :9], route(other, 2)[:, :9])


def test_the_first_token_gets_k():
    assert (online_mask(random_scores(4, 3), 3)[:, 0].sum(-1) == 3).all()


def test_virtual_may_overspend_and_strict_never_does():
    scores = random_scores(8, 40)  # peaked rows first, flat ones later
    allowed = 2 * torch.arange(1, 41)
    virtual, strict = (online_mask(scores, 2, mode=mode).sum(-1) for mode in ("virtual", "strict"))
    assert (virtual.cumsum(1) > allowed).any()
    assert (strict.cumsum(1) <= allowed).all()
    assert strict.min() >= 1


def test_padding_on_the_left_changes_nothing():
    scores, pads = random_scores(1, 12), 4
    long = torch.cat([torch.rand(1, pads, 8), scores], dim=1)
    other = random_scores(1, 16, seed=2)
    valid = torch.ones(2, 16, dtype=torch.bool)
    valid[0, :pads] = False
    batch = torch.cat([long, other])
    for prompt in (0, 7):
        mask = online_mask(batch, 2, valid=valid, prompt=prompt)
        assert not mask[0, :pads].any()
        assert torch.equal(mask[:1, pads:], online_mask(scores, 2, prompt=max(0, prompt - pads)))
        assert torch.equal(mask[1:], online_mask(other, 2, prompt=prompt))


def test_a_prompt_has_its_own_budget():
    scores = random_scores(2, 12)
    mask = online_mask(scores, 2, prompt=6)
    assert torch.equal(mask[:, :6], route(scores[:, :6], 2))


def test_the_cache_keeps_k_plus_1_numbers_a_token():
    state = OnlineState(K=2)
    for row in random_scores(3, 33).unbind(1):
        state.step(row)
    assert state.numbers == 33 * 3
    assert state.tokens.tolist() == [33] * 3
    assert len(state.runs) <= 6  # sorted runs of doubling length


def test_reordered_caches_go_on_like_the_sequences_they_hold():
    scores, index = random_scores(3, 10), torch.tensor([2, 2, 0])
    state = OnlineState(K=2, mode="strict")
    for row in scores[:, :6].unbind(1):
        state.step(row)
    state.reorder(index)
    moved = [state.step(row) for row in scores[index, 6:].unbind(1)]
    assert torch.equal(torch.stack(moved, 1), online_mask(scores, 2, mode="strict")[index, 6:])


def test_reset_starts_anew():
    scores = random_scores(2, 5)
    state = OnlineState(K=2)
    first = [state.step(row) for row in scores.unbind(1)]
    state.reset()
    assert state.numbers == 0
    again = [state.step(row) for row in scores.unbind(1)]
    assert torch.equal(torch.stack(first), torch.stack(again))


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="choose from virtual, strict"):
        OnlineState(K=2, mode="exact")
    state = OnlineState(K=2)
    state.step(random_scores(2, 1)[:, 0])
    with pytest.raises(ValueError, match="3 sequences, but the cache holds 2"):
        state.step(random_scores(3, 1)[:, 0])
    with pytest.raises(ValueError, match="not finite"):
        state.step(torch.full((2, 8), math.nan))
    with pytest.raises(ValueError, match="K is 9"):
        OnlineState(K=9).step(random_scores(2, 1)[:, 0])
