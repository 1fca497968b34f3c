"""Graph contrastive learning on sets of graphs: an encoder trained without labels, then a linear SVM.

On MUTAG an untrained GIN is within a few points of every trained one, whichever terms of the loss are kept. A seed
takes seconds to minutes on one CPU core:

    retable run gcl/graph --scale full --datasets mutag
"""

import math
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from retable.experiment import Experiment
from retable.nn.graph_batch import GraphBatch, batches
from retable.train.context import Context, Result

from .graphs.learner import Learner
from .graphs.learners import LEARNERS
from .graphs.task import FoldsTask, GraphTask
from .settings import GraphSettings
from .task import controls


def labels_and_degrees(settings: GraphSettings, context: Context) -> Result:
    """Counts of node labels and of degrees as embeddings: what a graph network has to beat on small graphs."""
    task = FoldsTask.load(settings, context)
    return Result(task.evaluate(task.labels_and_degrees()))


class Graph(Experiment[GraphSettings]):
    """Train a method's encoder on all graphs and score its frozen embeddings."""

    task_class: ClassVar[type[GraphTask]] = FoldsTask
    controls = controls(FoldsTask.load) | {"labels-and-degrees": labels_and_degrees}
    model: Learner

    def __init__(self, settings: GraphSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.task = self.task_class.load(settings, context)
        self.graphs = self.task.graphs
        context.seed_torch("weights")
        self.model = LEARNERS[settings.method](self.graphs.x.shape[1], settings).to(context.device)

    def train(self) -> None:
        s, model = self.settings, self.model
        optimisers = model.optimisers()
        self.context.seed_torch("order of graphs")
        fixed = [] if model.reshuffles else list(self._shuffled())
        for epoch in self.context.epochs(s.epochs if s.trained else 0, phase="", learner=model, **optimisers):
            model.train()
            model.begin_epoch()
            total = torch.zeros((), device=self.context.device)
            for batch in self._shuffled() if model.reshuffles else fixed:
                total += model.step(batch, optimisers) * batch.graphs
            loss = float(total) / self.graphs.graphs
            if math.isfinite(loss):
                model.end_epoch(self._shuffled)
            self.context.log(epoch, loss=loss)

    def _shuffled(self) -> Iterator[GraphBatch]:
        """Batches of all graphs in a new order."""
        order = torch.randperm(self.graphs.graphs).to(self.context.device)
        return batches(self.graphs, order, self.settings.batch_size)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {"encoder": self.model.encoder.state_dict()}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        self.model.encoder.load_state_dict(weights["encoder"])

    @torch.no_grad()
    def measure(self) -> Result:
        """Scores of the frozen embeddings in percent, and what the loss did to them."""
        z = self.model.encoder.eval()(self.graphs)[0]
        return Result(self.task.evaluate(z))

    def fixed_batch(self) -> Callable[[], Tensor]:
        order = torch.arange(self.graphs.graphs, device=self.context.device)
        batch = next(batches(self.graphs, order, self.settings.batch_size))

        return lambda: self.model.loss(batch)


EXPERIMENT = Graph
