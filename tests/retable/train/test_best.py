"""The best epoch so far: against a list of all epochs, and through a saved state."""

import math
import random

import torch
from torch import nn

from retable.train.best import BestCheckpoint


def model_of(epoch: int) -> nn.Module:
    """A model whose weights and statistics say of which epoch it is."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    for tensor in model.state_dict().values():
        tensor.fill_(epoch)
    return model


def epoch_of(weights: dict[str, torch.Tensor]) -> int:
    (epoch,) = {float(value) for tensor in weights.values() for value in tensor.flatten()}
    return int(epoch)


def test_it_is_the_earliest_of_the_highest_values() -> None:
    draw = random.Random(0)
    best, values = BestCheckpoint(), []
    for epoch in range(1, 60):
        values.append(draw.randint(0, 6) + epoch // 20)
        first = values.index(max(values)) + 1
        assert best.update(values[-1], epoch, model_of(epoch)) == (first == epoch)
        assert (best.value, best.epoch, epoch_of(best.weights)) == (max(values), first, first)


def test_its_weights_are_copies_that_training_does_not_move() -> None:
    best, model = BestCheckpoint(), model_of(3)
    best.update(0.5, 3, model)
    for tensor in model.state_dict().values():
        tensor.fill_(9)
    assert epoch_of(best.weights) == 3
    assert best.weights.keys() == model.state_dict().keys()
    assert not any(tensor.requires_grad for tensor in best.weights.values())


def test_a_saved_state_goes_on_where_it_was() -> None:
    best, other = BestCheckpoint(), BestCheckpoint()
    best.update(0.5, 3, model_of(3))
    other.load_state_dict(best.state_dict())
    assert not other.update(0.5, 4, model_of(4))
    assert (other.value, other.epoch, epoch_of(other.weights)) == (0.5, 3, 3)
    assert other.update(0.6, 5, model_of(5))
    assert (best.epoch, epoch_of(best.weights)) == (3, 3)


def test_any_value_is_better_than_none() -> None:
    best = BestCheckpoint()
    assert (best.value, best.epoch, best.weights) == (-math.inf, 0, {})
    assert best.update(-1e300, 1, model_of(1))
    assert best.epoch == 1
