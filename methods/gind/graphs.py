"""GIND on sets of graphs by ten-fold cross-validation; the authors read the best epoch by the mean TEST accuracy.

retable run gind/graphs --scale full --datasets mutag
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.data.readers.splits import stratified_folds
from retable.evaluate.answers import beside
from retable.experiment import Experiment
from retable.nn.graph_batch import GraphBatch, select_graphs
from retable.nn.graph_set_batch import batch_of
from retable.train.context import Context, Result

from .implicit import Diffusion, node_scale
from .networks import make_model, make_optimiser
from .settings import GraphSettings


class Task:
    """Graphs as one batch, classes (G,), and each graph's fold (G,), which the run's seed decides."""

    def __init__(self, context: Context) -> None:
        data, split = context.data()
        self.graphs = batch_of(data).to(context.device)
        self.y = torch.from_numpy(data.y).to(context.device)
        self.classes = int(data.y.max()) + 1
        folds = len(split.sizes)
        division = f"division {context.derive('division into folds')}"
        self.fold = torch.from_numpy(stratified_folds(data.name, division, data.y, folds).number)
        self.folds = folds

    def batches(self, chosen: Tensor, size: int) -> list[tuple[GraphBatch, Diffusion, Tensor]]:
        """The graphs `chosen` (M,) in batches, with their operators and classes."""
        found = []
        for rows in chosen.to(self.y.device).split(size):
            batch = select_graphs(self.graphs, rows)
            scale = node_scale(batch.edge_index, len(batch.x), self_loops=False)
            found.append((batch, Diffusion(batch.edge_index, scale, batch.node_graph, batch.graphs), self.y[rows]))
        return found


def majority(settings: GraphSettings, context: Context) -> Result:
    """The most frequent training class of each fold."""
    task = Task(context)
    y = task.y.cpu()
    answers = torch.stack([torch.bincount(y[task.fold != fold]).argmax() for fold in range(task.folds)])[task.fold]
    right = 100 * (answers == y).double().mean().item()
    return Result({"last_accuracy": right, "best_test_epoch_accuracy": right} | beside("last_accuracy", answers))


class Curves(nn.Module):
    """Test accuracy of each fold at each epoch, and the answers of the last; resumable."""

    accuracy: Tensor
    answers: Tensor

    def __init__(self, folds: int, epochs: int, graphs: int) -> None:
        super().__init__()
        self.register_buffer("accuracy", torch.zeros(folds, epochs, dtype=torch.float64))
        self.register_buffer("answers", torch.zeros(graphs, dtype=torch.long))


class Graphs(Experiment[GraphSettings]):
    """One network for each fold, trained side by side, so that an epoch's mean over folds is known at once."""

    controls = {"majority": majority}
    model: nn.ModuleList

    def __init__(self, settings: GraphSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.task = Task(context)
        made = []
        for fold in range(self.task.folds):
            context.seed_torch("weights", fold)
            made.append(make_model(settings, self.task.graphs.x.shape[1], self.task.classes))
        self.model = nn.ModuleList(made).to(context.device)
        self.curves = Curves(self.task.folds, settings.epochs, len(self.task.y))

    def train(self) -> None:
        s, task = self.settings, self.task
        everything = torch.arange(len(task.y))
        # As the authors' loader, whose batches are not shuffled.
        parts = [
            (
                task.batches(everything[task.fold != fold], s.batch_size),
                task.batches(everything[task.fold == fold], len(everything)),
            )
            for fold in range(task.folds)
        ]
        optimisers = [make_optimiser(model, s) for model in self.model]
        saved: dict[str, Any] = {f"optimiser {fold}": optimiser for fold, optimiser in enumerate(optimisers)}
        for epoch in self.context.epochs(s.epochs, model=self.model, curves=self.curves, **saved):
            total = 0.0
            for fold, (model, optimiser) in enumerate(zip(self.model, optimisers, strict=True)):
                self.context.seed_torch("epoch", epoch, "fold", fold)
                for group in optimiser.param_groups:
                    group["lr"] = group["peak_lr"] * (1 - (epoch - 1) / s.epochs)
                total += self._epoch(model, optimiser, parts[fold][0])
                self._test(fold, epoch, model, parts[fold][1])
            accuracy = self.curves.accuracy[:, epoch - 1].mean().item()
            self.context.log(epoch, loss=total / task.folds, test_accuracy=accuracy)

    def _epoch(self, model: nn.Module, optimiser: torch.optim.Optimizer, batches: list) -> float:
        losses = []
        for batch, graph, y in batches:
            loss = F.cross_entropy(model.train()(batch.x, graph), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()

    @torch.no_grad()
    def _test(self, fold: int, epoch: int, model: nn.Module, batches: list) -> None:
        answers = torch.cat([model.eval()(batch.x, graph).argmax(1) for batch, graph, _ in batches]).cpu()
        rows = self.task.fold == fold
        right = (answers == self.task.y.cpu()[rows]).double().mean()
        self.curves.accuracy[fold, epoch - 1] = 100 * right
        self.curves.answers[rows] = answers

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {"last": self.model.state_dict(), "curves": self.curves.state_dict()}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        self.model.load_state_dict(weights["last"])
        self.curves.load_state_dict(weights["curves"])

    def measure(self) -> Result:
        """Accuracies in percent over the ten folds, after the last epoch and, as the authors report it, at the best.

        The best epoch is the one of the highest mean test accuracy: it peeks at the test graphs.
        """
        by_epoch = self.curves.accuracy.mean(0)
        metrics = {
            "last_accuracy": by_epoch[-1].item(),
            "best_test_epoch_accuracy": by_epoch.max().item(),
            "fold_deviation": self.curves.accuracy[:, -1].std(correction=0).item(),
        }
        return Result(metrics | beside("last_accuracy", self.curves.answers))

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The first fold's first batch."""
        model = self.model[0].eval()
        batch, graph, y = self.task.batches((self.task.fold != 0).nonzero()[:, 0], self.settings.batch_size)[0]
        return lambda: F.cross_entropy(model(batch.x, graph), y)


EXPERIMENT = Graphs
