"""AutoGCL (Yin et al., 2022, https://arxiv.org/abs/2109.10259): two generators learn which nodes a view keeps."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.nn.graph_batch import GraphBatch

from ..losses import symmetric_loss
from ..settings import GraphSettings
from .gin import GIN, GINLayer, projection_head, reset_linear
from .learner import Learner

DEGREE_CAP = 100


class ViewGenerator(nn.Module):
    """A keep-or-drop decision for each node: GIN, ReLU, BatchNorm twice, then a hard Gumbel-softmax draw."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([GINLayer(features, dim), GINLayer(dim, 2)])
        self.bns = nn.ModuleList([nn.BatchNorm1d(dim), nn.BatchNorm1d(2)])

    def forward(self, batch: GraphBatch) -> Tensor:
        """1 where a node is kept, else 0: (N,), with the gradient of the soft choice (straight through)."""
        h = batch.x
        for conv, norm in zip(self.convs, self.bns, strict=True):
            h = norm(F.relu(conv(h, batch)))
        return F.gumbel_softmax(h, hard=True)[:, 0]


def view(batch: GraphBatch, keep: Tensor) -> GraphBatch:
    """Features times keep (N,), edges between kept nodes; no node is removed."""
    kept = keep.detach().bool()
    source, target = batch.edge_index
    edges = batch.edge_index[:, kept[source] & kept[target]]
    return replace(batch, x=batch.x * keep[:, None], edge_index=edges)


class AutoGCL(Learner):
    """Encoder, projection head and the two generators, trained together."""

    reshuffles = True

    def __init__(self, features: int, settings: GraphSettings) -> None:
        super().__init__(features, settings)
        dim = settings.hidden
        self.encoder = GIN(features, dim, settings.layers)
        self.proj_head = projection_head(self.encoder.width)
        self.generators = nn.ModuleList([ViewGenerator(features, dim), ViewGenerator(features, dim)])
        reset_linear(self)

    @staticmethod
    def prepare(graphs: GraphBatch) -> GraphBatch:
        return with_degrees(graphs)

    def loss(self, batch: GraphBatch) -> Tensor:
        """Contrast of two of {batch, view 1, view 2}, drawn with replacement, plus the views' similarity.

        The second term is ``1 - mean (keep1 - keep2)^2``.
        """
        keep1, keep2 = (generator(batch) for generator in self.generators)
        offer = (batch, view(batch, keep1), view(batch, keep2))
        first, second = (offer[number] for number in torch.randint(3, (2,)).tolist())
        a, b = (self.proj_head(self.encoder(side)[0]) for side in (first, second))
        return symmetric_loss(a, b, self.settings.tau, self.settings.terms) + 1 - F.mse_loss(keep1, keep2)


def with_degrees(batch: GraphBatch) -> GraphBatch:
    """AutoGCL's features: those of the batch, then a node's degree and its one-hot degree capped at 100."""
    degree = torch.bincount(batch.edge_index[1], minlength=len(batch.x))
    one_hot = F.one_hot(degree.clamp(max=DEGREE_CAP), DEGREE_CAP + 1).to(batch.x.dtype)
    return replace(batch, x=torch.cat([batch.x, degree[:, None].to(batch.x.dtype), one_hot], dim=1))
