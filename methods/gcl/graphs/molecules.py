"""Molecules as one batch, and OGB's evaluator of their embeddings."""

from typing import Self

import numpy as np
import torch
from torch import Tensor

from retable.data.containers import DataError, NodeSplit
from retable.data.molecules import MoleculeSet
from retable.evaluate.answers import unconverged
from retable.evaluate.ogb import ogb_score
from retable.evaluate.probes import PENALTIES, fit_logistic
from retable.nn.graph_batch import GraphBatch
from retable.train.context import Context

from ..settings import GraphSettings
from .task import GraphTask, learner_class

# OGB's evaluator of the area under the ROC curve, for its own set and for those that stand in for it.
EVALUATOR = "ogbg-molhiv"


class MoleculeTask(GraphTask):
    """Atoms with OGB's categories as one-hot columns, bonds without a kind; labels y (G,).

    Raises DataError where a part of the split lacks active or inactive molecules: the metric is not defined there.
    """

    def __init__(self, data: MoleculeSet, split: NodeSplit, settings: GraphSettings, device: torch.device) -> None:
        if data.y.ndim != 1:
            raise DataError(
                f"{data.name}: has {data.y.shape[1]} targets a molecule, this probe takes one class of each"
            )
        for name, part in (("train", split.train), ("val", split.val), ("test", split.test)):
            if len(set(data.y[part].tolist())) != 2:
                raise DataError(f"{data.name}: the {name} part does not hold both classes")
        method = learner_class(settings)
        x = one_hot(data.node_features, bare=not method.uses_features)
        edges, node_graph = torch.from_numpy(data.edge_index), torch.from_numpy(data.node_graph)
        self.graphs = method.prepare(GraphBatch(x, edges, node_graph, len(data.y))).to(device)
        self.y, self.split = data.y, split

    @classmethod
    def load(cls, settings: GraphSettings, context: Context) -> Self:
        return cls(*context.data(), settings, context.device)

    def scores(self, z: Tensor) -> dict[str, float]:
        """OGB's evaluator on the test molecules, at the penalty that is best on the validation ones.

        z (G, d): each feature is standardised over the training molecules.
        """
        train = torch.from_numpy(self.split.train).to(z.device)
        std, mean = torch.std_mean(z[train], dim=0, correction=0)
        z = (z - mean) / torch.where(std > 0, std, 1.0)
        fit = fit_logistic(z, torch.from_numpy(self.y).to(z.device), train[None], PENALTIES)
        active = fit.weight[0, :, :, 1] - fit.weight[0, :, :, 0]  # (R, d)
        logits = (z @ active.T).T.cpu().numpy()
        on_val = [self._auc(row, self.split.val) for row in logits]
        best = max(range(len(logits)), key=on_val.__getitem__)
        metrics = {"ogb_test_auc": self._auc(logits[best], self.split.test), "ogb_val_auc": on_val[best]}
        return metrics | unconverged("ogb_test_auc", [not fit.converged[0, best]])

    def majority_scores(self) -> dict[str, float]:
        same = np.zeros(len(self.y))
        return {"ogb_test_auc": self._auc(same, self.split.test), "ogb_val_auc": self._auc(same, self.split.val)}

    def _auc(self, logits: np.ndarray, part: np.ndarray) -> float:
        return ogb_score(EVALUATOR, self.y[part], logits[part])


def one_hot(categories: np.ndarray, bare: bool = False) -> Tensor:
    """Category numbers (N, A) -> float32 (N, sum of their ranges), or the constant 1 (N, 1) where `bare`."""
    if bare:
        return torch.ones(len(categories), 1)
    sizes = categories.max(axis=0) + 1
    x = torch.zeros(len(categories), int(sizes.sum()))
    return x.scatter_(1, torch.from_numpy(categories + np.cumsum(sizes) - sizes), 1.0)
