import pytest
import torch

from methods.gcl.nodes.learner import Learner


@pytest.fixture
def learner(learner_of) -> Learner:
    """The base class over GRACE's task, with a weight of 2."""
    grace = learner_of(lr=0.01, weight_decay=0.5)
    learner = Learner(grace.task, grace.settings)
    learner.weight = torch.nn.Parameter(torch.tensor(2.0))
    return learner


def test_the_rate_is_the_settings_own_in_every_epoch(learner: Learner, learner_of) -> None:
    assert [learner.lr(epoch) for epoch in (1, 7, 1000)] == [0.01, 0.01, 0.01]
    assert learner_of(method="grace").lr(7) == 0.01


def test_the_first_step_is_adams_and_weights_decay(learner: Learner) -> None:
    optimiser = learner.optimiser()
    (0 * learner.weight).backward()  # only the decay is left, and Adam's first step has the size of the rate
    optimiser.step()
    assert learner.weight.item() == pytest.approx(2 - 0.01)


def test_a_method_has_no_projected_views_unless_it_says_so_but_must_embed(learner: Learner) -> None:
    assert learner.projected_views() is None
    with pytest.raises(NotImplementedError):
        learner.embed()
    with pytest.raises(NotImplementedError):
        learner.loss(1)
