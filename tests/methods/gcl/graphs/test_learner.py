import pytest
import torch

from methods.gcl.graphs.learner import Learner
from retable.nn.graph_batch import GraphBatch


class Toy(Learner):
    """Minimises the square of one weight that starts at 3."""

    def __init__(self, features, settings):
        super().__init__(features, settings)
        self.encoder = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.encoder.weight, 3.0)

    def loss(self, batch):
        return self.encoder.weight.square().sum()


@pytest.fixture
def batch() -> GraphBatch:
    return GraphBatch(torch.ones(2, 1), torch.empty(2, 0, dtype=torch.long), torch.tensor([0, 1]), 2)


def test_a_step_returns_the_loss_before_it_and_moves_the_weights_by_the_rate(batch, graph_settings):
    toy = Toy(1, graph_settings(lr=0.25))
    optimisers = toy.optimisers()
    loss = toy.step(batch, optimisers)
    assert loss.item() == 9
    assert not loss.requires_grad
    assert toy.encoder.weight.item() == pytest.approx(3 - 0.25)  # the first step of Adam has the size of the rate


def test_a_step_does_not_add_up_gradients(batch, graph_settings):
    toy = Toy(1, graph_settings(lr=0.25))
    optimisers = toy.optimisers()
    for _ in range(2):
        before = toy.encoder.weight.item()
        toy.step(batch, optimisers)
        assert toy.encoder.weight.grad.item() == pytest.approx(2 * before)


def test_data_are_left_as_they_are_and_the_loss_is_the_methods_to_give(batch, graph_settings):
    assert Learner.prepare(batch) is batch
    assert (Learner.reshuffles, Learner.uses_features) == (False, True)
    with pytest.raises(NotImplementedError):
        Learner(1, graph_settings()).loss(batch)
