"""What every method on sets of graphs implements."""

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from retable.nn.graph_batch import GraphBatch

from ..settings import GraphSettings


class Learner(nn.Module):
    """An encoder of graphs with its objective: ``loss`` is minimised, ``encoder`` alone is kept and evaluated."""

    reshuffles: ClassVar[bool] = False
    """Whether each epoch has a new order of the graphs; GraphCL and InfoGraph keep one, as in the authors' code."""
    uses_features: ClassVar[bool] = True
    """Whether nodes have their features as input, or the constant 1."""
    encoder: nn.Module

    def __init__(self, features: int, settings: GraphSettings) -> None:
        super().__init__()
        self.settings = settings

    @staticmethod
    def prepare(graphs: GraphBatch) -> GraphBatch:
        """The data set with the features and edges that the method gets."""
        return graphs

    def loss(self, batch: GraphBatch) -> Tensor:
        """What the encoder minimises on a batch; views are drawn from torch's global stream."""
        raise NotImplementedError

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"optimiser": torch.optim.Adam(self.parameters(), lr=self.settings.lr, fused=True)}

    def step(self, batch: GraphBatch, optimisers: dict[str, torch.optim.Optimizer]) -> Tensor:
        """Update the weights; returns the encoder's loss before the update."""
        loss = self.loss(batch)
        optimisers["optimiser"].zero_grad()
        loss.backward()
        optimisers["optimiser"].step()
        return loss.detach()

    def begin_epoch(self) -> None:
        """Called before the first batch of an epoch."""

    def end_epoch(self, shuffled: Callable[[], Iterable[GraphBatch]]) -> None:
        """Called after an epoch; each call of `shuffled` gives batches of all graphs in a new order."""
