"""GRACE (Zhu et al., 2020, https://arxiv.org/abs/2006.04131): nodes in one augmented view against those in another."""

import torch
from torch import Tensor, nn

from retable.cards import CardError

from ..losses import node_losses, sampled_losses
from ..settings import NodeSettings
from .augment import Probability, add_noise, drop
from .encoders import BatchNormGCN, GCNEncoder, MLPEncoder, Projector, make_normaliser
from .learner import Learner
from .task import NodeTask


class Grace(Learner):
    """Two views, one encoder and projector, and the loss between nodes."""

    def __init__(self, task: NodeTask, settings: NodeSettings) -> None:
        super().__init__(task, settings)
        s = settings
        if s.loss == "neighbours" and s.sample:
            raise CardError(f"the loss 'neighbours' is computed among all nodes: set `sample` to 0, not {s.sample}")
        norm = make_normaliser(s.normaliser, 2 * s.hidden if s.encoder == "batchnorm-gcn" else s.hidden, s.norm_scale)
        if s.encoder == "mlp":
            self.encoder: nn.Module = MLPEncoder(task.features, s.hidden, norm)
        else:
            gcn = GCNEncoder if s.encoder == "gcn" else BatchNormGCN
            self.encoder = gcn(task.features, s.hidden, s.layers, s.activation, norm)
        self.projector = Projector(s.hidden, s.projection)
        self.drops = self.drop_probabilities()

    def drop_probabilities(self) -> list[tuple[Probability, Probability]]:
        """For each view the probabilities that an edge and that a feature is dropped."""
        s = self.settings
        return [(s.drop_edges_1, s.drop_features_1), (s.drop_edges_2, s.drop_features_2)]

    def views(self) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Projected views (N, d), the same tensor twice where nothing is drawn, and their edge lists (2, E)."""
        s, whole = self.settings, self.task.view
        if s.augmentation == "own":
            first, second = (drop(whole, *p) for p in self.drops)
            h1, h2 = (self.projector(self.encoder(view)) for view in (first, second))
            return h1, h2, (first.edges, second.edges)
        z = self.encoder(whole)
        edges = whole.edges, whole.edges
        if s.augmentation == "none":
            h = self.projector(z)
            return h, (self.projector(self.encoder(whole)) if self._is_random() else h), edges
        h1, h2 = (self.projector(add_noise(z, torch.randn_like(z), s.noise_variance)) for _ in range(2))
        return h1, h2, edges

    def _is_random(self) -> bool:
        """Whether two passes over one graph differ: dropout, random slopes."""
        return self.training and (self.settings.encoder != "gcn" or self.settings.activation == "rrelu")

    def loss(self, epoch: int) -> Tensor:
        s = self.settings
        h1, h2, edges = self.views()
        if 0 < s.sample < len(h1):
            nodes = torch.randperm(len(h1), device=h1.device)[: s.sample]
            return self.reduce(sampled_losses(h1, h2, s.tau, s.terms, (nodes, nodes)))
        neighbours = edges if s.loss == "neighbours" else None
        return self.reduce(node_losses(h1, h2, s.tau, s.terms, neighbours))

    def reduce(self, per_node: Tensor) -> Tensor:
        """(N,) -> a scalar."""
        return per_node.mean()

    def embed(self) -> Tensor:
        return self.encoder(self.task.view)

    def projected_views(self) -> tuple[Tensor, Tensor]:
        return self.views()[:2]
