"""What every method on nodes implements."""

import torch
from torch import Tensor, nn

from ..settings import NodeSettings
from .task import NodeTask


class Learner(nn.Module):
    """An encoder of a graph with its objective: ``loss`` is minimised, ``embed`` is evaluated."""

    def __init__(self, task: NodeTask, settings: NodeSettings) -> None:
        super().__init__()
        self.task, self.settings = task, settings

    def loss(self, epoch: int) -> Tensor:
        """Training loss of one step; epochs count from 1. Views are drawn from torch's global stream."""
        raise NotImplementedError

    def embed(self) -> Tensor:
        """Representations (N, d) of the whole graph."""
        raise NotImplementedError

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def lr(self, epoch: int) -> float:
        return self.settings.lr

    def after_step(self, epoch: int) -> None:
        """Called after the optimiser's step."""

    def projected_views(self) -> tuple[Tensor, Tensor] | None:
        """Two augmented views (N, d) as the loss gets them, for alignment and uniformity."""
        return None
