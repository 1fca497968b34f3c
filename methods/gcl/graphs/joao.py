"""JOAOv2 (You et al., 2021, https://arxiv.org/abs/2106.07594): GraphCL that learns how often to use which augmentation.

The distribution over augmentations takes a step towards those with a high loss after every epoch, held near the
uniform one by gamma, and is projected back onto the simplex.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from retable.nn.graph_batch import GraphBatch, with_self_loops

from ..losses import graphcl_loss
from ..settings import GraphSettings
from .augment import cut, drop_edges, drop_nodes, mask_attributes, subgraph
from .gin import make_encoder, projection_head, reset_linear
from .learner import Learner

AUGMENTATIONS = ("drop nodes", "drop edges", "subgraph", "mask attributes", "identity")
RATIO = 0.2
# The distribution is updated by the losses on one in so many of an epoch's batches.
UPDATED_BY = 5
TOLERANCE = 1e-2


def augmented_view(batch: GraphBatch, choice: Tensor) -> GraphBatch:
    """Each graph under its own augmentation, choice (G,) indices into AUGMENTATIONS, cleaned as GraphCL's."""
    node_drop, edge_drop, keep_part, mask = (choice == number for number in range(4))
    kept = drop_nodes(batch, RATIO, node_drop)
    kept &= drop_edges(batch, RATIO, edge_drop)
    kept &= subgraph(batch, 1 - RATIO, keep_part)
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


class JOAO(Learner):
    """An encoder with one projection head for each augmentation, and the distribution over them."""

    reshuffles = True
    p: Tensor

    def __init__(self, features: int, settings: GraphSettings) -> None:
        super().__init__(features, settings)
        self.encoder = make_encoder(features, settings)
        self.heads = nn.ModuleList(projection_head(self.encoder.width) for _ in AUGMENTATIONS)
        self.register_buffer("p", torch.full((len(AUGMENTATIONS),), 1 / len(AUGMENTATIONS), dtype=torch.float64))
        self.head = 0
        reset_linear(self)

    @staticmethod
    def prepare(graphs: GraphBatch) -> GraphBatch:
        return with_self_loops(graphs)

    def begin_epoch(self) -> None:
        """Draw the epoch's head from p; it is not tied to the augmentation."""
        self.head = int(torch.multinomial(self.p, 1))

    def loss(self, batch: GraphBatch) -> Tensor:
        """The first view through head 0, the second, drawn from p, through the epoch's head."""
        choice = torch.multinomial(self.p, batch.graphs, replacement=True)
        return self._contrast(batch, choice, self.head)

    @torch.no_grad()
    def end_epoch(self, shuffled: Callable[[], Iterable[GraphBatch]]) -> None:
        """Move p by each augmentation's loss on the first batches of an order of its own, head 0, in training mode.

        The loss is the sum over batches over (number of batches x batch size), as in the authors' code.
        """
        losses = []
        for number in range(len(AUGMENTATIONS)):
            batches = list(shuffled())
            sample = batches[: len(batches) // UPDATED_BY + 1]
            values = [self._contrast(batch, torch.full((batch.graphs,), number), 0) * batch.graphs for batch in sample]
            losses.append(float(torch.stack(values).sum()) / (len(sample) * self.settings.batch_size))
        updated = update_distribution(self.p.cpu().numpy(), np.array(losses), self.settings.gamma)
        self.p.copy_(torch.from_numpy(updated))

    def _contrast(self, batch: GraphBatch, choice: Tensor, head: int) -> Tensor:
        first = self.heads[0](self.encoder(batch)[0])
        second = self.heads[head](self.encoder(augmented_view(batch, choice.to(batch.x.device)))[0])
        return graphcl_loss(first, second, self.settings.tau, self.settings.terms)
