"""BGRL (Thakoor et al., ICLR 2022): predict a slowly moving copy's view of the graph from another one; no negatives."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.train.schedules import warmup_cosine

from ..settings import NodeSettings
from .augment import drop
from .encoders import View
from .learner import Learner
from .task import NodeTask

# Running statistics are almost those of the last batch: torch's momentum is the weight of the new value.
BATCH_NORM_MOMENTUM = 0.99


class BGRLEncoder(nn.Module):
    """Per layer: graph convolution, BatchNorm, PReLU; W Glorot uniform, b zero."""

    def __init__(self, features: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        dims = [features, *widths]
        self.weights = nn.ParameterList(torch.empty(a, b) for a, b in zip(dims, widths, strict=False))
        self.biases = nn.ParameterList(torch.empty(width) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width, momentum=BATCH_NORM_MOMENTUM) for width in widths)
        self.activations = nn.ModuleList(nn.PReLU() for _ in widths)
        self.reset()

    def reset(self) -> None:
        """Draw all weights anew."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            nn.init.xavier_uniform_(weight)
            nn.init.zeros_(bias)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.PReLU):
                module.reset_parameters()

    def forward(self, view: View) -> Tensor:
        """Representations (N, last width)."""
        h = view.times(self.weights[0])
        for i, bias in enumerate(self.biases):
            h = h @ self.weights[i] if i else h
            h = self.activations[i](self.norms[i](view.propagate @ h + bias))
        return h


class BGRL(nn.Module):
    """Online encoder, predictor, and a target encoder that follows the online one and takes no gradient.

    The target has weights of its own at the start. It runs in training mode: its batch statistics are its own too.
    """

    def __init__(self, features: int, widths: tuple[int, ...], predictor_hidden: int) -> None:
        super().__init__()
        self.online = BGRLEncoder(features, widths)
        self.target = copy.deepcopy(self.online)
        self.target.reset()
        self.target.requires_grad_(False)
        width = widths[-1]
        self.predictor = nn.Sequential(
            nn.Linear(width, predictor_hidden), nn.PReLU(), nn.Linear(predictor_hidden, width)
        )

    def forward(self, view1: View, view2: View) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predictions and targets (q1, y2, q2, y1), each (N, d): q1 is to match y2, and q2 to match y1."""
        q1, q2 = self.predictor(self.online(view1)), self.predictor(self.online(view2))
        with torch.no_grad():
            y2, y1 = self.target(view2), self.target(view1)
        return q1, y2, q2, y1

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Target parameters: ``momentum`` of their own, the rest of the online ones; statistics are left alone."""
        for target, online in zip(self.target.parameters(), self.online.parameters(), strict=True):
            target.mul_(momentum).add_(online, alpha=1 - momentum)


class Bootstrap(Learner):
    """BGRL as a learner; the settings ``hidden`` and ``out`` are its encoder's two widths."""

    def __init__(self, task: NodeTask, settings: NodeSettings) -> None:
        super().__init__(task, settings)
        self.model = BGRL(task.features, (settings.hidden, settings.out), settings.predictor)

    def optimiser(self) -> torch.optim.Optimizer:
        trained = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def loss(self, epoch: int) -> Tensor:
        s, whole = self.settings, self.task.view
        first = drop(whole, s.drop_edges_1, s.drop_features_1)
        second = drop(whole, s.drop_edges_2, s.drop_features_2)
        return bootstrap_loss(*self.model(first, second))

    def embed(self) -> Tensor:
        return self.model.online(self.task.view)

    def lr(self, epoch: int) -> float:
        return warmup_cosine(epoch - 1, self.settings.lr, self.settings.warmup, self.settings.epochs)

    def after_step(self, epoch: int) -> None:
        s = self.settings
        self.model.update_target(target_momentum(epoch - 1, s.target_momentum, s.epochs))


def bootstrap_loss(q1: Tensor, y2: Tensor, q2: Tensor, y1: Tensor) -> Tensor:
    """``2 - mean cos(q1, y2) - mean cos(q2, y1)``, between 0 and 4."""
    return 2 - F.cosine_similarity(q1, y2).mean() - F.cosine_similarity(q2, y1).mean()


def target_momentum(step: int, base: float, total: int) -> float:
    """From ``base`` at step 0 to 1 at ``total`` along half a cosine."""
    return 1 - (1 - base) * (1 + math.cos(math.pi * step / total)) / 2
