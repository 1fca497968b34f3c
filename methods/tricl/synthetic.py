"""The paper's theorem where everything is known: the augmentation graph of six-bit words, factored from several starts.

Three factors find the same six features from every start, up to signs; two factors find the same space in other
coordinates each time. A seed takes seconds:

    retable run tricl/identifiability --scale full
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from retable.experiment import Experiment
from retable.train.context import Context, Result
from retable.train.schedules import cosine, set_lr

from .factorisation import best_factors, decorrelation, three_factor, two_factor
from .importance import agreement, importance_order
from .settings import MatrixSettings


class Factors(nn.Module):
    """`f` (R, n, k) and `raw` (R, k), S = softplus(raw), of R runs with their own initialisation; float64."""

    def __init__(self, runs: int, nodes: int, features: int) -> None:
        super().__init__()
        self.f = nn.Parameter(torch.randn(runs, nodes, features, dtype=torch.float64) / nodes**0.5)
        self.raw = nn.Parameter(0.1 * torch.randn(runs, features, dtype=torch.float64))

    def importance(self) -> Tensor:
        """S (R, k)."""
        return nn.functional.softplus(self.raw)


class Identifiability(Experiment[MatrixSettings]):
    """Factor the graph A (n, n) from the starts of one seed, and compare what they found."""

    model: Factors

    def __init__(self, settings: MatrixSettings, context: Context) -> None:
        super().__init__(settings, context)
        graph, _ = context.data()
        self.a = torch.from_numpy(graph.x.toarray()).double().to(context.device)
        context.seed_torch("starts")
        self.model = Factors(settings.runs, len(self.a), settings.features).to(context.device)

    def objective(self) -> tuple[Tensor, Tensor]:
        """Squared error of each run's product, and its penalty; (R,) each."""
        model, factors = self.model, self.settings.factors
        loss = two_factor(self.a, model.f) if factors == "two" else three_factor(self.a, model.f, model.importance())
        return loss, decorrelation(model.f) if factors == "three" else torch.zeros_like(loss)

    def train(self) -> None:
        s, model = self.settings, self.model
        optimiser = torch.optim.Adam(model.parameters(), lr=s.lr)
        epochs = s.epochs if s.trained else 0
        for epoch in self.context.epochs(epochs, model=model, optimiser=optimiser):
            for step in range((epoch - 1) * s.steps, epoch * s.steps):
                set_lr(optimiser, cosine(step, s.lr, 0, epochs * s.steps))
                loss, penalty = self.objective()
                optimiser.zero_grad()
                (loss + penalty).sum().backward()
                optimiser.step()
            self.context.log(epoch, loss=loss.mean().item(), penalty=penalty.mean().item())

    @torch.no_grad()
    def measure(self) -> Result:
        """Similarities over all pairs of runs, and with the eigenvectors; features in order of importance.

        Two factors have no S; the squared norms of their columns replace it, which S is where columns have norm 1.
        """
        f = self.model.f
        vectors, values, best = best_factors(self.a, f.shape[2])
        importance = f.square().sum(1) if self.settings.factors == "two" else self.model.importance()
        orders = [importance_order(row) for row in importance]
        found = [run[:, order] for run, order in zip(f, orders, strict=True)]
        pairs = [agreement(one, other, centred=False) for one, other in itertools.combinations(found, 2)]
        truth = [agreement(one, vectors, centred=False) for one in found]
        sorted_importance = torch.stack([row[order] for row, order in zip(importance, orders, strict=True)])
        loss, _ = self.objective()
        metrics = {
            "similarity": torch.stack([pair.at_equal_ranks for pair in pairs]).mean().item(),
            "matched_similarity": torch.stack([pair.matched for pair in pairs]).mean().item(),
            "eigenvector_similarity": torch.stack([one.at_equal_ranks for one in truth]).mean().item(),
            "eigenvalue_error": (sorted_importance - values).abs().mean().item(),
            "excess_loss": (loss - best).mean().item(),
            "penalty": decorrelation(f).mean().item(),
        }
        return Result(metrics, {"importance": sorted_importance.mean(0).tolist()})

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The objective of all runs."""
        return lambda: torch.cat(self.objective()).sum()


EXPERIMENT = Identifiability
