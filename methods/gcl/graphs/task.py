"""A set of graphs as one batch, and the linear SVM that scores their embeddings."""

import sys
from typing import Self

import numpy as np
import torch
from torch import Tensor

from retable.data.graph_sets import Folds, GraphSet, node_features, simple_edges
from retable.evaluate.svm import CrossValidated, majority_cross_validation, svm_cross_validation
from retable.train.context import Context

from ..geometry import geometry
from ..settings import GraphSettings
from ..task import Task
from .batch import GraphBatch
from .learner import Learner
from .learners import LEARNERS


class GraphTask(Task):
    """Graphs as the method gets them, and classes ``y`` (G,); a subclass reads the data and scores embeddings."""

    graphs: GraphBatch
    y: np.ndarray

    @classmethod
    def load(cls, settings: GraphSettings, context: Context) -> Self:
        """The task of a cell."""
        raise NotImplementedError

    def raw_features(self) -> Tensor:
        """The nodes' features summed over each graph: (G, F)."""
        return self.graphs.membership @ self.graphs.x

    def geometry(self, z: Tensor) -> dict[str, float]:
        return geometry(z, torch.from_numpy(self.y).to(z.device))


class FoldsTask(GraphTask):
    """A set of graphs with the folds of a cross-validation (G,)."""

    def __init__(self, data: GraphSet, split: Folds, settings: GraphSettings, device: torch.device) -> None:
        method = learner_class(settings)
        x = node_features(data, attributes=settings.node_attributes) if method.uses_features else None
        if x is None:
            if method.uses_features:
                print(f"{data.name}: no node features; every node gets the constant 1", file=sys.stderr)
            x = np.ones((len(data.node_graph), 1), dtype=np.float32)
        edges, node_graph = torch.from_numpy(simple_edges(data)), torch.from_numpy(data.node_graph)
        self.graphs = method.prepare(GraphBatch(torch.from_numpy(x), edges, node_graph, len(data.y))).to(device)
        self.y, self.folds, self.settings = data.y, split.number, settings

    @classmethod
    def load(cls, settings: GraphSettings, context: Context) -> Self:
        return cls(*context.data(), settings, context.device)

    def scores(self, z: Tensor) -> dict[str, float]:
        """Means over folds of the authors' protocol, and of the one with standardised features."""
        s = self.settings
        low, high = (round(np.log10(cost)) for cost in (s.svm_lowest_cost, s.svm_highest_cost))
        costs = tuple(10.0**power for power in range(low, high + 1))
        plain, standardised = (
            svm_cross_validation(
                z.double().cpu().numpy(), self.y, self.folds, standardise=on, costs=costs, inner=s.svm_inner_folds
            )
            for on in (False, True)
        )
        return _named(plain, standardised) | {"svm_unconverged": float(plain.unconverged)}

    def majority_scores(self) -> dict[str, float]:
        answer = majority_cross_validation(self.y, self.folds)
        return _named(answer, answer)


def learner_class(settings: GraphSettings) -> type[Learner]:
    """The class of the method; of a row without an encoder the base class, which leaves the data as they are."""
    return LEARNERS.get(settings.method, Learner)


def _named(plain: CrossValidated, standardised: CrossValidated) -> dict[str, float]:
    return {
        "svm_accuracy": plain.mean,
        "svm_standardised_accuracy": standardised.mean,
        "svm_fold_deviation": float(plain.accuracies.std()),
    }
