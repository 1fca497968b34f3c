import pytest
import torch
import torch.nn.functional as F

from methods.gcl.losses import directed_losses, weighted_losses
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


def test_equal_weights_are_the_loss_without_the_intra_view_twin() -> None:
    """With B constant, the weighted contrast is GRACE's own: the same 2N - 1 candidates."""
    h1, h2 = torch.randn(2, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    constant = torch.full((12, 12), 0.3, dtype=torch.float64).fill_diagonal_(0)
    for loss in ("contrast", "no-positives"):
        torch.testing.assert_close(weighted_losses(h1, h2, constant, 0.4, loss), directed_losses(h1, h2, 0.4, loss)[0])


def test_similar_negatives_that_look_false_count_less() -> None:
    cosines = torch.tensor([[1.0, 0.99, -0.5], [0.99, 1.0, 0.1], [-0.5, 0.1, 1.0]]).double()
    mixture = BetaMixture(torch.tensor([2.0, 30.0]), torch.tensor([5.0, 1.0]), torch.tensor([0.5, 0.5]))
    weights = pair_weights(cosines, mixture)
    assert weights[0, 1] < weights[1, 2]


def test_no_negatives_has_no_weighted_form() -> None:
    h = F.normalize(torch.randn(4, 3))
    with pytest.raises(ValueError, match="no weighted negatives"):
        weighted_losses(h, h, torch.ones(4, 4), 0.5, "no-negatives")
