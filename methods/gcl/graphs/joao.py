"""JOAOv2 (You et al., 2021, https://arxiv.org/abs/2106.07594): GraphCL that learns how often to use which augmentation.

The distribution over augmentations takes a step towards those with a high loss after every epoch, held near the
uniform one by gamma, and is projected back onto the simplex.
"""

import numpy as np
import torch
from torch import Tensor, nn

from ..graph_losses import graphcl_loss
from .augment import cut, drop_edges, drop_nodes, mask_attributes, subgraph
from .batch import GraphBatch
from .gin import GIN, MLPEncoder, projection_head, reset_linear

AUGMENTATIONS = ("drop nodes", "drop edges", "subgraph", "mask attributes", "identity")
RATIO = 0.2
TOLERANCE = 1e-2


def augmented_view(batch: GraphBatch, choice: Tensor) -> GraphBatch:
    """Each graph under its own augmentation, choice (G,) places in AUGMENTATIONS, cleaned as GraphCL's."""
    node_drop, edge_drop, part, mask = (choice == number for number in range(4))
    kept = drop_nodes(batch, RATIO, node_drop)
    kept &= drop_edges(batch, RATIO, edge_drop)
    kept &= subgraph(batch, 1 - RATIO, part)
    return cut(mask_attributes(batch, RATIO, mask), kept)


def update_distribution(p: np.ndarray, losses: np.ndarray, gamma: float) -> np.ndarray:
    """One step of projected ascent on the distribution p (n,), given each augmentation's loss (n,).

    ``b = p + losses - gamma (p - 1/n)``, then the projection of b onto the simplex.
    """
    return project_to_simplex(p + losses - gamma * (p - 1 / len(p)))


def project_to_simplex(b: np.ndarray) -> np.ndarray:
    """max(b - mu, 0) with the mu that makes its sum 1 within TOLERANCE, found by bisection, then rescaled.

    The tolerance is the authors'; an exact projection differs from theirs in the second digit.
    """
    low, high = b.min() - 1 / len(b), b.max() - 1 / len(b)
    while True:
        mu = (low + high) / 2
        total = np.maximum(b - mu, 0).sum()
        if abs(total - 1) <= TOLERANCE:
            return np.maximum(b - mu, 0) / total
        low, high = (mu, high) if total > 1 else (low, mu)


class JOAO(nn.Module):
    """An encoder with one projection head for each augmentation, and the distribution over them."""

    p: Tensor

    def __init__(self, encoder: GIN | MLPEncoder) -> None:
        """`encoder` gives graph and node embeddings of its `width`."""
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(projection_head(encoder.width) for _ in AUGMENTATIONS)
        self.register_buffer("p", torch.full((len(AUGMENTATIONS),), 1 / len(AUGMENTATIONS), dtype=torch.float64))
        reset_linear(self)

    def loss(self, batch: GraphBatch, part: str, tau: float, head: int) -> Tensor:
        """The loss of a batch: the first view through head 0, the second, drawn from p, through `head`."""
        choice = torch.multinomial(self.p, batch.graphs, replacement=True)
        return self._contrast(batch, choice, part, tau, head)

    def draw_head(self) -> int:
        """A head for the epoch, drawn from p; it is not tied to the augmentation."""
        return int(torch.multinomial(self.p, 1))

    @torch.no_grad()
    def update(self, sample: list[GraphBatch], part: str, tau: float, gamma: float, batch_size: int) -> None:
        """Move p by each augmentation's loss on the batches of `sample`, head 0, in training mode.

        The loss is the sum over batches over (number of batches x batch size), as in the authors' code.
        """
        losses = []
        for number in range(len(AUGMENTATIONS)):
            values = [
                self._contrast(batch, torch.full((batch.graphs,), number), part, tau, 0) * batch.graphs
                for batch in sample
            ]
            losses.append(float(torch.stack(values).sum()) / (len(sample) * batch_size))
        updated = update_distribution(self.p.cpu().numpy(), np.array(losses), gamma)
        self.p.copy_(torch.from_numpy(updated))

    def _contrast(self, batch: GraphBatch, choice: Tensor, part: str, tau: float, head: int) -> Tensor:
        first = self.heads[0](self.encoder(batch)[0])
        second = self.heads[head](self.encoder(augmented_view(batch, choice.to(batch.x.device)))[0])
        return graphcl_loss(first, second, tau, part)
