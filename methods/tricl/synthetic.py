"""The paper's theorem where everything is known: the augmentation graph of six-bit words, factored from several starts.

Three factors find the same six features from every start, up to signs; two factors find the same space in other
coordinates each time. A seed takes seconds:

    retable run tricl/identifiability --scale full
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from methods.tricl.factorisation import best_factors, decorrelation, three_factor, two_factor
from methods.tricl.importance import agreement, importance_order
from retable.cards import CardError, Scalar, unknown
from retable.plan import Cell
from retable.train.context import Context, Result
from retable.train.schedules import cosine, set_rate

FACTORS = ("two", "three", "three-no-penalty")


class Factors(nn.Module):
    """``f`` (R, n, k) and ``raw`` (R, k), S = softplus(raw), of R runs from starts of their own; float64."""

    def __init__(self, runs: int, nodes: int, features: int) -> None:
        super().__init__()
        self.f = nn.Parameter(torch.randn(runs, nodes, features, dtype=torch.float64) / nodes**0.5)
        self.raw = nn.Parameter(0.1 * torch.randn(runs, features, dtype=torch.float64))

    def importance(self) -> Tensor:
        """S (R, k)."""
        return nn.functional.softplus(self.raw)


def objective(model: Factors, a: Tensor, settings: dict[str, Scalar]) -> tuple[Tensor, Tensor]:
    """How far each run's product is from A, and its penalty; (R,) each. CardError for an unknown form."""
    factors = str(settings["factors"])
    if factors not in FACTORS:
        raise CardError(unknown("form", factors, list(FACTORS)))
    if factors == "two":
        loss = two_factor(a, model.f)
        return loss, torch.zeros_like(loss)
    loss = three_factor(a, model.f, model.importance())
    return loss, decorrelation(model.f) if factors == "three" else torch.zeros_like(loss)


def build(cell: Cell, context: Context) -> tuple[Tensor, Factors]:
    """The graph A (n, n) in float64 and the starts, which depend on the seed only."""
    graph, _ = context.data()
    a = torch.from_numpy(graph.x.toarray()).double().to(context.device)
    context.seed_torch("starts")
    return a, Factors(int(cell.settings["runs"]), len(a), int(cell.settings["features"])).to(context.device)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The starts and their summed objective."""
    a, model = build(cell, context)
    return model, lambda: sum(objective(model, a, cell.settings), torch.zeros(())).sum()


def run(cell: Cell, context: Context) -> Result:
    """Factor A from the starts of one seed and compare what they found."""
    s = cell.settings
    a, model = build(cell, context)
    rate, steps = float(s["lr"]), int(s["steps"])
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    epochs = int(s["epochs"]) if s["trained"] else 0
    for epoch in context.epochs(epochs, model=model, optimiser=optimiser):
        for step in range((epoch - 1) * steps, epoch * steps):
            set_rate(optimiser, cosine(step, rate, 0, epochs * steps))
            loss, penalty = objective(model, a, s)
            optimiser.zero_grad()
            (loss + penalty).sum().backward()
            optimiser.step()
        context.log(epoch, loss=loss.mean().item(), penalty=penalty.mean().item())
    context.save_weights("last", model.state_dict())
    return measure(a, model, s)


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the factors it kept, without training."""
    a, model = build(cell, context)
    model.load_state_dict(context.load_weights("last"))
    return measure(a, model, cell.settings)


@torch.no_grad()
def measure(a: Tensor, model: Factors, settings: dict[str, Scalar]) -> Result:
    """Similarities over all pairs of runs, and with the eigenvectors; features in order of importance.

    Two factors have no S; the squared lengths of their columns stand for it, which S is where columns have length 1.
    """
    features = model.f.shape[2]
    vectors, values, best = best_factors(a, features)
    lengths = model.f.square().sum(1)
    importance = lengths if settings["factors"] == "two" else model.importance()
    orders = [importance_order(row) for row in importance]
    found = [f[:, order] for f, order in zip(model.f, orders, strict=True)]
    pairs = [agreement(one, other, centred=False) for one, other in itertools.combinations(found, 2)]
    truth = [agreement(one, vectors, centred=False) for one in found]
    sorted_importance = torch.stack([row[order] for row, order in zip(importance, orders, strict=True)])
    loss, _ = objective(model, a, settings)
    metrics = {
        "similarity": torch.stack([pair.at_equal_ranks for pair in pairs]).mean().item(),
        "matched_similarity": torch.stack([pair.matched for pair in pairs]).mean().item(),
        "eigenvector_similarity": torch.stack([one.at_equal_ranks for one in truth]).mean().item(),
        "eigenvalue_error": (sorted_importance - values).abs().mean().item(),
        "excess_loss": (loss - best).mean().item(),
        "penalty": decorrelation(model.f).mean().item(),
    }
    return Result(metrics, {"importance": sorted_importance.mean(0).tolist()})
