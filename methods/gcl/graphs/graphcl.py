"""GraphCL (You et al., 2020, https://arxiv.org/abs/2010.13902): a graph against an augmented copy of itself."""

import torch
from torch import Tensor

from retable.nn.graph_batch import GraphBatch, with_self_loops

from ..losses import graphcl_loss
from ..settings import GraphSettings
from .augment import (
    add_noise,
    cut,
    drop_edges,
    drop_nodes,
    mask_attributes,
    shared_uniform_noise,
    subgraph,
)
from .gin import make_encoder, projection_head, reset_linear
from .learner import Learner

EDGE_MASKS = {"drop-nodes": drop_nodes, "drop-edges": drop_edges, "subgraph": subgraph}
AUGMENTATIONS = (*EDGE_MASKS, "mask-attributes", "noise", "none")


def two_views(
    batch: GraphBatch, augmentation: str, ratio: float, variance: float, official_quirks: bool = False
) -> tuple[GraphBatch, GraphBatch]:
    """The batch itself, and its augmentation: one of AUGMENTATIONS.

    ratio: share of nodes or edges that is dropped, masked or, for ``subgraph``, kept. variance: of the noise.
    `official_quirks`: the noise of the authors' code, which is uniform and lands in both views.
    Raises ValueError for an unknown augmentation.
    """
    if augmentation == "none":
        return batch, batch
    if augmentation == "noise":
        if official_quirks:
            noisy = shared_uniform_noise(batch, variance)
            return noisy, noisy
        return batch, add_noise(batch, variance)
    everywhere = torch.ones(batch.graphs, dtype=torch.bool, device=batch.x.device)
    if augmentation == "mask-attributes":
        return batch, mask_attributes(batch, ratio, everywhere)
    if augmentation in EDGE_MASKS:
        return batch, cut(batch, EDGE_MASKS[augmentation](batch, ratio, everywhere))
    raise ValueError(f"unknown augmentation {augmentation!r}; valid: {', '.join(AUGMENTATIONS)}")


class GraphCL(Learner):
    """An encoder and a projection head."""

    def __init__(self, features: int, settings: GraphSettings) -> None:
        super().__init__(features, settings)
        self.encoder = make_encoder(features, settings)
        self.proj_head = projection_head(self.encoder.width)
        reset_linear(self)

    @staticmethod
    def prepare(graphs: GraphBatch) -> GraphBatch:
        return with_self_loops(graphs)

    def forward(self, batch: GraphBatch) -> Tensor:
        """Projections (G, width)."""
        return self.proj_head(self.encoder(batch)[0])

    def loss(self, batch: GraphBatch) -> Tensor:
        s = self.settings
        return self.contrast(*two_views(batch, s.augmentation, s.ratio, s.noise_variance, s.official_quirks))

    def contrast(self, first: GraphBatch, second: GraphBatch) -> Tensor:
        """The loss of two views of the same graphs."""
        return graphcl_loss(self(first), self(second), self.settings.tau, self.settings.terms)
