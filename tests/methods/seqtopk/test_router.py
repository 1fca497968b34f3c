"""SeqTopK's selection beside an obvious version, and the scores, weights and ranks around it."""

import pytest
import torch
from torch import Tensor

from methods.seqtopk.router import best, check_bounds, gate_weights, nth_largest, router_scores, sequence_topk

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


def obvious(scores: Tensor, K: int, lower: int, upper: int, valid: Tensor) -> Tensor:
    """One sequence at a time, one pair after the other, by sorting everything."""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for b, sequence in enumerate(scores):
        pairs = []
        for t, row in enumerate(sequence):
            if not valid[b, t]:
                continue
            order = sorted(range(len(row)), key=lambda e, row=row: (-float(row[e]), e))
            mask[b, t, order[: min(lower, K)]] = True
            pairs += [(-float(row[e]), t, e) for e in order[min(lower, K) : upper]]
        for _, t, e in sorted(pairs)[: int(K * valid[b].sum() - mask[b].sum())]:
            mask[b, t, e] = True
    return mask


@pytest.mark.parametrize("levels", [0, 1, 3])
@pytest.mark.parametrize(("batch", "tokens", "experts", "K", "lower", "upper"), SHAPES)
def test_the_selection_is_what_sorting_everything_gives_ties_included(batch, tokens, experts, K, lower, upper, levels):
    scores, valid = random_scores(batch, tokens, experts, levels=levels), random_padding(batch, tokens)
    ours = sequence_topk(scores, K, *check_bounds(K, experts, lower, upper), valid)
    assert torch.equal(ours, obvious(scores, K, lower, upper, valid))


def test_half_precision_logits_are_ranked_at_float32():
    assert router_scores(torch.randn(2, 3, dtype=torch.bfloat16)).dtype == torch.float32


def test_weights_follow_the_mask_and_an_empty_row_stays_zero():
    p = random_scores(1, 3, 4)[0]
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]).bool()
    assert torch.equal(gate_weights(p, mask), p * mask)
    normalised = gate_weights(p.clone().requires_grad_(), mask, normalise=True)
    torch.testing.assert_close(normalised.sum(-1), torch.tensor([1.0, 0.0, 1.0]))
    leaf = p.clone().requires_grad_()
    gate_weights(leaf, mask, normalise=True).square().sum().backward()
    assert leaf.grad.isfinite().all()


def test_best_takes_lower_places_first():
    values = torch.tensor([[1.0, 2.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert best(values, torch.tensor([3, 0])).tolist() == [[True, True, True, False], [False] * 4]


def test_the_nth_largest_counts_from_one_and_is_infinite_for_none():
    values = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 4.0]])
    assert nth_largest(values, 2).tolist() == [2.0, 5.0]
    assert nth_largest(values, torch.tensor([0, 3])).tolist() == [float("inf"), 4.0]


def test_bounds_are_clipped_to_what_can_hold():
    assert check_bounds(2, 8, lower=5) == (2, 4)
    assert check_bounds(7, 8) == (1, 8)
    with pytest.raises(ValueError, match="choose from softmax"):
        router_scores(torch.zeros(2), "tanh")
