"""Graph classification with a positional encoding: none, with random signs, canonized, or read by an even network.

retable run map/graphs --scale demo
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retable.data.readers.splits import stratified_folds
from retable.evaluate.answers import beside
from retable.experiment import BestEpochExperiment
from retable.nn.graph_batch import GraphBatch, select_graphs
from retable.nn.graph_set_batch import batch_of
from retable.train.context import Context, Result

from .graphs import adjacencies, encoding_of, spectrum_of
from .networks import GraphClassifier
from .settings import ClassifySettings


class Task:
    """Graphs as one batch, the encoding (N, k) of their nodes, classes (G,), and three parts that the seed decides.

    One fold of ten is tested on, one chosen on; both are stratified.
    """

    def __init__(self, s: ClassifySettings, context: Context) -> None:
        data, split = context.data()
        self.graphs = batch_of(data).to(context.device)
        self.columns = torch.zeros(len(self.graphs.x), s.k, device=context.device)
        if s.encoding != "none":
            parts = [
                encoding_of(spectrum_of(adjacency), s.k, s.encoding).columns
                for adjacency in adjacencies(data, np.arange(len(data.y)))
            ]
            self.columns = torch.cat(parts).float().to(context.device)
        self.y = torch.from_numpy(data.y).to(context.device)
        self.classes = int(data.y.max()) + 1
        fold = stratified_folds(
            data.name, f"division {context.derive('division into folds')}", data.y, len(split.sizes)
        ).number
        device = context.device
        self.test, self.val, self.train = (
            torch.from_numpy(np.flatnonzero(chosen)).to(device) for chosen in (fold == 0, fold == 1, fold > 1)
        )
        # Of every node the place of its graph's first one, to cut the encoding as the batch is cut.
        self.starts = self.graphs.starts

    def batch(self, rows: Tensor) -> tuple[GraphBatch, Tensor, Tensor]:
        """The graphs `rows` (B,), their encodings (n, k) and classes (B,)."""
        batch = select_graphs(self.graphs, rows)
        offset = torch.arange(len(batch.x), device=rows.device) - batch.starts[batch.node_graph]
        return batch, self.columns[self.starts[rows][batch.node_graph] + offset], self.y[rows]


def majority(settings: ClassifySettings, context: Context) -> Result:
    """The most frequent training class for every graph."""
    task = Task(settings.model_copy(update={"encoding": "none"}), context)
    answers = torch.bincount(task.y[task.train]).argmax().expand(len(task.test))
    right = 100 * (answers == task.y[task.test]).double().mean().item()
    return Result({"test_accuracy": right} | beside("test_accuracy", answers))


class Graphs(BestEpochExperiment[ClassifySettings]):
    """Train a classifier of graphs; the epoch is chosen by validation accuracy."""

    controls = {"majority": majority}
    model: GraphClassifier

    def __init__(self, settings: ClassifySettings, context: Context) -> None:
        super().__init__(settings, context)
        self.task = Task(settings, context)
        context.seed_torch("weights")
        self.model = GraphClassifier(self.task.graphs.x.shape[1], self.task.classes, settings).to(context.device)

    def train(self) -> None:
        s, task, model = self.settings, self.task, self.model
        optimiser = torch.optim.Adam(model.parameters(), lr=s.lr)
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser, best=self.best):
            model.train()
            losses = []
            for rows in task.train[torch.randperm(len(task.train))].split(s.batch_size):
                loss = self._loss(rows, random_signs=s.encoding == "random-sign")
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
            val = self._accuracy(task.val)
            self.best.update(val, epoch, model)
            self.context.log(epoch, loss=torch.stack(losses).mean().item(), val_accuracy=val)

    def _loss(self, rows: Tensor, *, random_signs: bool = False) -> Tensor:
        batch, columns, y = self.task.batch(rows)
        if random_signs:
            columns = columns * (2 * torch.randint(2, (1, columns.shape[1]), device=columns.device) - 1)
        return F.cross_entropy(self.model(batch, columns), y)

    @torch.no_grad()
    def _answers(self, rows: Tensor) -> Tensor:
        batch, columns, _ = self.task.batch(rows)
        return self.model.eval()(batch, columns).argmax(1)

    def _accuracy(self, rows: Tensor) -> float:
        return 100 * (self._answers(rows) == self.task.y[rows]).double().mean().item()

    def measure(self) -> Result:
        """Accuracies in percent at the epoch with the best validation accuracy."""
        self.model.load_state_dict(self.best.weights)
        metrics = {"val_accuracy": self._accuracy(self.task.val), "test_accuracy": self._accuracy(self.task.test)}
        return Result(metrics | beside("test_accuracy", self._answers(self.task.test)))

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The first training graphs, without dropout."""
        self.model.eval()
        rows = self.task.train[: self.settings.batch_size]
        return lambda: self._loss(rows)


EXPERIMENT = Graphs
