"""AD-GCL (Suresh et al., 2021, https://arxiv.org/abs/2106.05819): a learnt view that hurts the loss most.

Two networks are updated in turn on each batch: the view learner maximises the loss by the weights that it gives to
edges, less a penalty for each edge that it weakens; the encoder then minimises the loss on that view.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.graph_batch import GraphBatch

from ..losses import symmetric_loss
from ..settings import GraphSettings, Terms
from .gin import projection_head, reset_linear
from .learner import Learner

GATE_BIAS = 1e-4


class WeightedGINLayer(nn.Module):
    """``MLP(x_i + sum_{j -> i} w_ji x_j)``; without weights all are 1."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.nn = nn.Sequential(nn.Linear(features, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, x: Tensor, batch: GraphBatch, edge_weight: Tensor | None = None) -> Tensor:
        """x (N, features), edge_weight (E,) -> (N, dim)."""
        if edge_weight is None:
            return self.nn(batch.neighbourhood @ x)
        source, target = batch.edge_index
        messages = x.index_select(0, source) * edge_weight[:, None]
        return self.nn(x.index_add(0, target, messages))


class WeightedGIN(nn.Module):
    """L layers with BatchNorm, then ReLU except after the last; a graph is the sum over its last layer."""

    def __init__(self, features: int, dim: int, layers: int) -> None:
        super().__init__()
        widths = [features] + [dim] * layers
        self.convs = nn.ModuleList(WeightedGINLayer(a, b) for a, b in itertools.pairwise(widths))
        self.bns = nn.ModuleList(nn.BatchNorm1d(dim) for _ in range(layers))
        self.width = dim

    def forward(self, batch: GraphBatch, edge_weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Graph embeddings (G, dim) and node embeddings (N, dim)."""
        h = batch.x
        for depth, (conv, norm) in enumerate(zip(self.convs, self.bns, strict=True), start=1):
            h = norm(conv(h, batch, edge_weight))
            if depth < len(self.convs):
                h = F.relu(h)
        return batch.membership @ h, h


class ContrastModel(nn.Module):
    """Encoder and projection head."""

    def __init__(self, features: int, dim: int, layers: int) -> None:
        super().__init__()
        self.encoder = WeightedGIN(features, dim, layers)
        self.proj_head = projection_head(dim)
        reset_linear(self)

    def forward(self, batch: GraphBatch, edge_weight: Tensor | None = None) -> Tensor:
        """Projections (G, dim)."""
        return self.proj_head(self.encoder(batch, edge_weight)[0])


class ViewLearner(nn.Module):
    """Its own encoder, and an MLP that scores an edge by the embeddings of its two ends."""

    def __init__(self, features: int, dim: int, layers: int, hidden: int = 64) -> None:
        super().__init__()
        self.encoder = WeightedGIN(features, dim, layers)
        self.mlp_edge_model = nn.Sequential(nn.Linear(2 * dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        reset_linear(self)

    def forward(self, batch: GraphBatch) -> Tensor:
        """A logit for each directed edge: (E,)."""
        nodes = self.encoder(batch)[1]
        source, target = batch.edge_index
        ends = torch.cat([nodes.index_select(0, source), nodes.index_select(0, target)], dim=1)
        return self.mlp_edge_model(ends).squeeze(1)


def gate(logits: Tensor, uniform: Tensor) -> Tensor:
    """Edge weights in (0, 1), a relaxed Bernoulli draw at temperature 1; uniform (E,) in [0, 1)."""
    eps = (GATE_BIAS - (1 - GATE_BIAS)) * uniform + (1 - GATE_BIAS)
    return torch.sigmoid(eps.log() - (1 - eps).log() + logits)


def dropped_share(weight: Tensor, batch: GraphBatch) -> Tensor:
    """The mean of 1 - w over a graph's edges, averaged over the graphs that have edges; 0 if none has."""
    counts = batch.edge_counts
    sums = weight.new_zeros(batch.graphs).index_add(0, batch.edge_graph, 1 - weight)
    return (sums / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)


def view_objective(
    model: ContrastModel,
    learner: ViewLearner,
    batch: GraphBatch,
    uniform: Tensor,
    terms: Terms,
    tau: float,
    penalty: float,
) -> Tensor:
    """What the view learner maximises: the loss of its view less `penalty` times the share it drops."""
    weight = gate(learner(batch), uniform)
    loss = symmetric_loss(model(batch), model(batch, weight), tau, terms)
    return loss - penalty * dropped_share(weight, batch)


class ADGCL(Learner):
    """Encoder and view learner, which are updated in turn, each by its own optimiser."""

    reshuffles = True
    uses_features = False

    def __init__(self, features: int, settings: GraphSettings) -> None:
        super().__init__(features, settings)
        self.model = ContrastModel(features, settings.hidden, settings.layers)
        self.view_learner = ViewLearner(features, settings.hidden, settings.layers)
        self.encoder = self.model.encoder

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        s = self.settings
        return {
            "optimiser": torch.optim.Adam(self.model.parameters(), lr=s.lr, fused=True),
            "view_optimiser": torch.optim.Adam(self.view_learner.parameters(), lr=s.view_lr, fused=True),
        }

    def loss(self, batch: GraphBatch) -> Tensor:
        """The encoder's loss on the view learner's current view; no gradient reaches the view learner."""
        self.model.train()
        self.view_learner.eval()
        with torch.no_grad():
            weight = gate(self.view_learner(batch), _uniform(batch))
        return symmetric_loss(self.model(batch), self.model(batch, weight), self.settings.tau, self.settings.terms)

    def step(self, batch: GraphBatch, optimisers: dict[str, torch.optim.Optimizer]) -> Tensor:
        """First the view learner, against a model in evaluation mode, then the model."""
        s = self.settings
        self.view_learner.train()
        self.model.eval()
        objective = view_objective(self.model, self.view_learner, batch, _uniform(batch), s.terms, s.tau, s.penalty)
        optimisers["view_optimiser"].zero_grad()
        (-objective).backward()
        optimisers["view_optimiser"].step()
        return super().step(batch, optimisers)


def _uniform(batch: GraphBatch) -> Tensor:
    return torch.rand(batch.edge_index.shape[1], dtype=batch.x.dtype, device=batch.x.device)
