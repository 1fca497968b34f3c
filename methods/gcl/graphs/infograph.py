"""InfoGraph (Sun et al., 2020, https://arxiv.org/abs/1908.01000): nodes against graphs, no augmentation."""

import torch
from torch import Tensor, nn

from retable.nn.graph_batch import GraphBatch, wl_classes

from ..losses import infograph_loss
from ..settings import GraphSettings
from .gin import GIN, make_encoder, reset_linear
from .learner import Learner


class FeedForward(nn.Module):
    """Three times Linear and ReLU, plus a linear shortcut; all of the same width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.ReLU())]
        self.block = nn.Sequential(*layers)
        self.linear_shortcut = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.block(x) + self.linear_shortcut(x)


class InfoGraph(Learner):
    """An encoder with one head for nodes and one for graphs."""

    def __init__(self, features: int, settings: GraphSettings) -> None:
        super().__init__(features, settings)
        self.encoder = make_encoder(features, settings)
        self.local_head = FeedForward(self.encoder.width)
        self.global_head = FeedForward(self.encoder.width)
        reset_linear(self)

    def loss(self, batch: GraphBatch) -> Tensor:
        pooled, layers = self.encoder(batch)
        nodes = torch.cat(layers, dim=1)
        if isinstance(self.encoder, GIN):
            # The head costs most, and a quarter to four fifths of the nodes of small graphs share their embeddings.
            first, kind = wl_classes(batch, len(layers))
            local = self.local_head(nodes[first]).index_select(0, kind)
        else:
            local = self.local_head(nodes)
        return infograph_loss(local, self.global_head(pooled), batch.node_graph, self.settings.terms)
