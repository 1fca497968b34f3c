"""A set of graphs as one batch, and the linear SVMs that score their embeddings."""

import sys
from typing import Self

import numpy as np
import torch
from torch import Tensor

from retable.cards import CardError
from retable.data.graph_sets import GraphSet, node_features, simple_edges
from retable.data.readers.splits import stratified_folds
from retable.evaluate.answers import beside, unconverged
from retable.evaluate.svm import (
    CrossValidated,
    linear_svc_cross_validation,
    majority_cross_validation,
    svm_cross_validation,
)
from retable.nn.graph_batch import GraphBatch
from retable.train.context import Context

from ..geometry import geometry
from ..settings import GraphSettings
from ..task import Task
from .autogcl import DEGREE_CAP
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
    """A set of graphs with several divisions of it into the folds of a cross-validation, (V, G)."""

    def __init__(
        self, data: GraphSet, divisions: np.ndarray, settings: GraphSettings, device: torch.device, svc_seed: int = 0
    ) -> None:
        method = learner_class(settings)
        x = node_features(data, attributes=settings.node_attributes) if method.uses_features else None
        if x is None:
            if method.uses_features:
                print(f"{data.name}: no node features; every node gets the constant 1", file=sys.stderr)
            x = np.ones((len(data.node_graph), 1), dtype=np.float32)
        edges, node_graph = torch.from_numpy(simple_edges(data)), torch.from_numpy(data.node_graph)
        self.graphs = method.prepare(GraphBatch(torch.from_numpy(x), edges, node_graph, len(data.y))).to(device)
        self.y, self.divisions, self.settings, self.svc_seed = data.y, divisions, settings, svc_seed

    @classmethod
    def load(cls, settings: GraphSettings, context: Context) -> Self:
        data, split = context.data()
        divisions = fold_divisions(data, len(split.sizes), settings.svm_divisions, context)
        return cls(data, divisions, settings, context.device, context.derive("LinearSVC"))

    def scores(self, z: Tensor) -> dict[str, float]:
        """Means over divisions and folds of the authors' protocol; over the first division's folds with standardised
        features and, where the settings ask for it, of scikit-learn's LinearSVC.
        """
        s, rows, first = self.settings, z.double().cpu().numpy(), self.divisions[:1]
        low, high = (round(np.log10(cost)) for cost in (s.svm_lowest_cost, s.svm_highest_cost))
        costs = tuple(10.0**power for power in range(low, high + 1))
        plain = svm_cross_validation(
            rows, self.y, self.divisions, standardise=False, costs=costs, inner=s.svm_inner_folds
        )
        standardised = svm_cross_validation(rows, self.y, first, standardise=True, costs=costs, inner=s.svm_inner_folds)
        metrics = _named("svm", plain) | _counts("svm", plain)
        metrics |= _named("svm_standardised", standardised) | _counts("svm_standardised", standardised)
        if s.linear_svc:
            theirs = linear_svc_cross_validation(
                rows, self.y, first, self.svc_seed, costs=costs, inner=s.svm_inner_folds
            )
            metrics |= _named("linear_svc", theirs) | _counts("linear_svc", theirs)
            metrics["svm_gain"] = plain[0].mean - theirs[0].mean
        return metrics | _spread(plain)

    def majority_scores(self) -> dict[str, float]:
        answer = majority_cross_validation(self.y, self.divisions)
        return _named("svm", answer) | _named("svm_standardised", answer[:1]) | _spread(answer)

    def labels_and_degrees(self) -> Tensor:
        """Beside the raw features, each graph's number of nodes by degree, the last of `DEGREE_CAP` and more."""
        graphs = self.graphs
        degree = torch.bincount(graphs.edge_index[1], minlength=len(graphs.x)).clamp(max=DEGREE_CAP)
        places = graphs.node_graph * (DEGREE_CAP + 1) + degree
        histogram = torch.bincount(places, minlength=graphs.graphs * (DEGREE_CAP + 1)).view(graphs.graphs, -1)
        return torch.cat([self.raw_features(), histogram.to(graphs.x.dtype)], dim=1)


def fold_divisions(data: GraphSet, folds: int, number: int, context: Context) -> np.ndarray:
    """Stratified divisions of the graphs (number, G), which the run's seed and the data set's name decide.

    Raises CardError for no divisions.
    """
    if number < 1:
        raise CardError(f"svm_divisions is {number}; expected 1 or more")
    streams = (f"division {context.derive('division into folds', index)}" for index in range(number))
    return np.stack([stratified_folds(data.name, stream, data.y, folds).number for stream in streams])


def learner_class(settings: GraphSettings) -> type[Learner]:
    """The class of the method; of a row without an encoder the base class, which leaves the data as they are."""
    return LEARNERS.get(settings.method, Learner)


def _named(name: str, divisions: list[CrossValidated]) -> dict[str, float]:
    """Accuracy, the largest share of one class among a fold's answers, and the number of graphs that are tested."""
    answers = [answer for division in divisions for answer in division.answers]
    metric = f"{name}_accuracy"
    graphs = sum(map(len, divisions[0].answers))
    return {metric: float(np.mean([division.mean for division in divisions]))} | beside(metric, *answers, items=graphs)


def _counts(name: str, divisions: list[CrossValidated]) -> dict[str, float]:
    """How many machines were fitted, and how many of them stopped before they had converged."""
    stopped_early = sum(division.unconverged for division in divisions)
    return unconverged(f"{name}_accuracy", stopped_early) | {
        f"{name}_fits": float(sum(division.fits for division in divisions))
    }


def _spread(divisions: list[CrossValidated]) -> dict[str, float]:
    """Deviation over folds, as the authors take it (mean over divisions), and the sample deviation over divisions."""
    means = [division.mean for division in divisions]
    return {
        "svm_fold_deviation": float(np.mean([division.accuracies.std() for division in divisions])),
        "svm_division_deviation": float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
    }
