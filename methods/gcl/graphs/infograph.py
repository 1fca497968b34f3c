"""InfoGraph (Sun et al., 2020, https://arxiv.org/abs/1908.01000): nodes against graphs, no augmentation."""

import torch
from torch import Tensor, nn

from ..graph_losses import infograph_loss
from .batch import GraphBatch, alike
from .gin import GIN, MLPEncoder, reset_linear


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


class InfoGraph(nn.Module):
    """An encoder with one head for nodes and one for graphs."""

    def __init__(self, encoder: GIN | MLPEncoder) -> None:
        """`encoder` gives graph and node embeddings of its `width`."""
        super().__init__()
        self.encoder = encoder
        self.local_head = FeedForward(encoder.width)
        self.global_head = FeedForward(encoder.width)
        reset_linear(self)

    def loss(self, batch: GraphBatch, part: str) -> Tensor:
        """The loss of a batch; `part` as in `graph_losses.PARTS`."""
        pooled, layers = self.encoder(batch)
        nodes = torch.cat(layers, dim=1)
        if isinstance(self.encoder, GIN):
            # The head costs most, and a quarter to four fifths of the nodes of small graphs have a double.
            first, kind = alike(batch, len(layers))
            local = self.local_head(nodes[first]).index_select(0, kind)
        else:
            local = self.local_head(nodes)
        return infograph_loss(local, self.global_head(pooled), batch.node_graph, part)
