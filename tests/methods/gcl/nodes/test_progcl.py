import pytest
import torch

from methods.gcl.nodes.progcl import BetaMixture, fit_pair_weights, pair_weights


def mean_and_variance(mixture: BetaMixture) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the two components, (2,) each."""
    a, b = mixture.alpha, mixture.beta
    return a / (a + b), a * b / ((a + b).square() * (a + b + 1))


@pytest.mark.parametrize("iterations", [1, 10])
def test_the_mixture_has_the_first_two_moments_of_the_sample(iterations: int) -> None:
    torch.manual_seed(0)
    x = torch.distributions.Beta(3.0, 6.0).sample((9000,)).double()
    mixture = BetaMixture.fit(x, 0.5, iterations)
    mean, variance = mean_and_variance(mixture)
    torch.testing.assert_close((mixture.weight * mean).sum(), x.mean())
    torch.testing.assert_close((mixture.weight * (variance + mean.square())).sum(), x.square().mean())


def test_the_mixture_finds_two_separate_distributions() -> None:
    torch.manual_seed(0)
    low, high = torch.distributions.Beta(5.0, 20.0), torch.distributions.Beta(20.0, 5.0)
    mixture = BetaMixture.fit(torch.cat([low.sample((9000,)), high.sample((3000,))]), 0.5, iterations=100)
    torch.testing.assert_close(mixture.weight, torch.tensor([0.75, 0.25]).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(mean_and_variance(mixture)[0], torch.tensor([0.2, 0.8]).double(), atol=0.03, rtol=0)


def test_posteriors_are_probabilities_up_to_the_ends() -> None:
    x = torch.rand(500, generator=torch.Generator().manual_seed(0)).square()
    posteriors = BetaMixture.fit(x, 0.05).posteriors(torch.tensor([0.0, 1e-9, 0.5, 1.0]))
    torch.testing.assert_close(posteriors.sum(0), torch.ones(4).double())
    assert posteriors.isfinite().all()


def test_weights_are_between_zero_and_one_without_the_diagonal() -> None:
    h1, h2 = torch.randn(2, 30, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = fit_pair_weights(h1, h2, torch.arange(30), 0.05)
    assert bool((weights.diagonal() == 0).all())
    assert 0 <= weights.min() <= weights.max() <= 1


def test_similar_negatives_that_look_false_count_less() -> None:
    cosines = torch.tensor([[1.0, 0.99, -0.5], [0.99, 1.0, 0.1], [-0.5, 0.1, 1.0]]).double()
    mixture = BetaMixture(torch.tensor([2.0, 30.0]), torch.tensor([5.0, 1.0]), torch.tensor([0.5, 0.5]))
    weights = pair_weights(cosines, mixture)
    assert weights[0, 1] < weights[1, 2]


def test_progcl_fits_once_and_remembers_through_its_state(learner_of) -> None:
    learner = learner_of(method="progcl")
    learner.loss(1)
    assert not learner.fitted
    learner.loss(2)
    weights, views = learner.pair_weights(*learner.views()[:2]), learner.fit_views.clone()
    learner.loss(3)
    assert torch.equal(learner.fit_views, views)
    other = learner_of(method="progcl")
    other.load_state_dict(learner.state_dict())
    assert torch.equal(other.pair_weights(*other.views()[:2]), weights)


def test_progcls_sign_without_negatives_flips_only_under_the_authors_form(learner_of, loss_of) -> None:
    values = []
    for quirks in (False, True):
        learner = learner_of(method="progcl", loss="no-negatives", official_quirks=quirks)
        values.append(loss_of(learner, epoch=2))
    assert values[0] == -values[1] < 0
