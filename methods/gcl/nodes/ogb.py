"""OGB's evaluator of node classification, for graphs whose pairs and edges are too many for dense arrays."""

import torch
from torch import Tensor

from retable.data.containers import NodeGraph
from retable.evaluate.answers import beside, unconverged
from retable.evaluate.ogb import ogb_score
from retable.evaluate.probes import PENALTIES, LogisticFit, fit_logistic
from retable.nn.rows import normalize_rows
from retable.train.context import Context

from ..geometry import geometry
from ..settings import NodeSettings
from .task import NodeTask

# Edges at a time: two gathered copies of 256 features take 0.2 GB.
EDGES_AT_ONCE = 100_000


class OgbTask(NodeTask):
    """A graph with OGB's own split, its representations scored by OGB's evaluator."""

    def __init__(self, graph: NodeGraph, settings: NodeSettings, context: Context) -> None:
        super().__init__(graph, settings, context)
        self.dataset = context.cell.dataset

    def scores(self, z: Tensor) -> dict[str, float]:
        fit, z = self._probe(z)
        answers = fit.predict(z)[0]
        best, metrics = self._ogb_scores(answers)
        return metrics | unconverged("ogb_test_accuracy", [not fit.converged[0, best]])

    def majority_scores(self) -> dict[str, float]:
        most = torch.bincount(self.y[self.train[0]]).argmax()
        return self._ogb_scores(most.expand(1, len(self.y)))[1]

    def _probe(self, z: Tensor) -> tuple[LogisticFit, Tensor]:
        """Logistic regression, R penalties, on z (N, d), centred and divided by its std, which is returned so."""
        z = z.detach().float()
        z = z - z.mean(0)
        std = z.square().mean().sqrt()
        z = z / torch.where(std > 0, std, 1.0)
        return fit_logistic(z, self.y, self.train, PENALTIES), z

    def _ogb_scores(self, answers: Tensor) -> tuple[int, dict[str, float]]:
        """Which of the answers (R, N) are best on the validation nodes, and their scores on the test nodes."""
        ((val, test),) = self.protocols.values()
        y = self.y.cpu().numpy()

        def score(row: Tensor, mask: Tensor) -> float:
            part = mask[0].cpu().numpy()
            return ogb_score(self.dataset, y[part], row.cpu().numpy()[part])

        on_val = [score(row, val) for row in answers]
        best = max(range(len(answers)), key=on_val.__getitem__)
        metrics = {"ogb_test_accuracy": score(answers[best], test), "ogb_val_accuracy": on_val[best]}
        return best, metrics | beside("ogb_test_accuracy", answers[best][test[0]])

    def geometry(self, z: Tensor) -> dict[str, float]:
        """The measures of `NodeTask.geometry`, without an array of all edges' features.

        Neighbours' cosines are added up in parts. The Dirichlet energy is ``(sum u_i . u_i - sum u_i . (A u)_i) / N``,
        A the normalised adjacency.
        """
        u, (source, target) = normalize_rows(z), self.view.edges
        ends = zip(source.split(EDGES_AT_ONCE), target.split(EDGES_AT_ONCE), strict=True)
        near = sum((u[a] * u[b]).sum(dtype=torch.float64).item() for a, b in ends)
        energy = (u.square() - u * (self.view.propagate @ u)).sum(dtype=torch.float64).item() / len(u)
        return geometry(z, self.y, neighbour_cosine=near / max(len(source), 1), dirichlet_energy=energy)
