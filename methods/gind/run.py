"""GIND on nodes: full-batch training, the checkpoint chosen on the validation nodes.

A seed on Texas takes half a minute on one CPU core:

    retable run gind/nodes --scale full --datasets texas
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.data.containers import NodeGraph, NodeSplit
from retable.data.edges import distinct_edges
from retable.evaluate.answers import beside
from retable.experiment import Experiment
from retable.nn.scipy_csr import csr_tensor
from retable.nn.sparse import SparseMatrix, row_normalise
from retable.train.context import Context, Result

from .implicit import Diffusion, node_scale
from .model import GIND
from .networks import GCN, make_model, make_optimiser
from .settings import NodeSettings


def split_of(graph: NodeGraph, split: NodeSplit, seed: int) -> NodeSplit:
    """The seed's one of the data set's ten splits; the cell's own where the data set has no ten."""
    return graph.splits.get(f"geom-{seed % 10}", split)


class Task:
    """A graph for the diffusion, features (n, F) whose rows sum to 1, labels and the parts' nodes."""

    def __init__(self, settings: NodeSettings, context: Context) -> None:
        graph, split = context.data()
        self.split = split_of(graph, split, context.seed)
        nodes, device = len(graph.y), context.device
        edges = torch.from_numpy(
            distinct_edges(graph.edge_index, nodes, loops=settings.keep_loops, undirected=settings.symmetrise)
        )
        scale = node_scale(edges, nodes, self_loops=settings.self_loops)
        self.graph = Diffusion(edges.to(device), scale.to(device))
        self.x = SparseMatrix(row_normalise(csr_tensor(graph.x))).to(device)
        self.y = torch.from_numpy(graph.y).to(device)
        self.classes = int(graph.y.max()) + 1
        self.nodes = {
            part: torch.from_numpy(np.flatnonzero(mask)).to(device) for part, mask in vars(self.split).items()
        }

    def loss(self, logits: Tensor, part: str = "train") -> Tensor:
        """Mean cross-entropy of logits (n, classes) on a part's nodes."""
        rows = self.nodes[part]
        return F.cross_entropy(logits[rows], self.y[rows])

    def accuracy(self, answers: Tensor, part: str) -> float:
        """Of answers (n,) on a part's nodes, in percent."""
        rows = self.nodes[part]
        return 100 * (answers[rows] == self.y[rows]).double().mean().item()


def majority(settings: NodeSettings, context: Context) -> Result:
    """The most frequent training class for every node."""
    task = Task(settings, context)
    most = torch.bincount(task.y[task.nodes["train"]]).argmax()
    answers = most.expand(len(task.y))
    metrics = {f"{part}_accuracy": task.accuracy(answers, part) for part in ("val", "test")}
    return Result(metrics | beside("test_accuracy", answers[task.nodes["test"]]))


class Chosen:
    """The authors' checkpoint. Resumable.

    An epoch whose validation accuracy is at least the best so far resets the patience and moves both records, the best
    accuracy and the lowest loss at such an epoch; its weights are kept if its accuracy is a new best or its loss is no
    higher than the record.
    """

    def __init__(self) -> None:
        self.accuracy, self.loss, self.waited = -1.0, float("inf"), 0
        self.weights: dict[str, Tensor] = {}

    def update(self, accuracy: float, loss: float, model: nn.Module) -> None:
        """Note an epoch's validation accuracy and loss."""
        self.waited += 1
        if accuracy < self.accuracy:
            return
        if accuracy > self.accuracy or loss <= self.loss:
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.accuracy, self.loss, self.waited = max(accuracy, self.accuracy), min(loss, self.loss), 0

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Nodes(Experiment[NodeSettings]):
    """Train on a graph's labelled nodes, one split for each seed."""

    controls = {"majority": majority}
    model: GIND | GCN

    def __init__(self, settings: NodeSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.task = Task(settings, context)
        context.seed_torch("weights")
        self.model = make_model(settings, self.task.x.shape[1], self.task.classes).to(context.device)
        self.chosen = Chosen()

    def train(self) -> None:
        s, task, model = self.settings, self.task, self.model
        optimiser = make_optimiser(model, s)
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser, chosen=self.chosen):
            loss = task.loss(model.train()(task.x, task.graph))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            logits = self._logits()
            val = task.accuracy(logits.argmax(1), "val")
            self.chosen.update(val, task.loss(logits, "val").item(), model)
            self.context.log(epoch, loss=loss.item(), val_accuracy=val)
            if self.chosen.waited >= s.patience:
                break

    @torch.no_grad()
    def _logits(self) -> Tensor:
        return self.model.eval()(self.task.x, self.task.graph)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {"chosen": self.chosen.weights}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        self.chosen.weights = weights["chosen"]

    def measure(self) -> Result:
        """Accuracies in percent of the chosen epoch, and how much the state still changes in the last iteration."""
        self.model.load_state_dict(self.chosen.weights)
        answers = self._logits().argmax(1)
        metrics = {f"{part}_accuracy": self.task.accuracy(answers, part) for part in ("val", "test")}
        metrics |= beside("test_accuracy", answers[self.task.nodes["test"]])
        if self.settings.method != "gind" or not isinstance(self.model, GIND):
            return Result(metrics)
        changes: list[float] = []
        with torch.no_grad():
            self.model.iterate(self.model.encode(self.task.x), self.task.graph, changes)
        return Result(metrics | {"last_relative_change": changes[-1]}, {"relative_change": changes})

    def fixed_batch(self) -> Callable[[], Tensor]:
        """All training nodes, without dropout."""
        self.model.eval()
        return lambda: self.task.loss(self.model(self.task.x, self.task.graph))


EXPERIMENT = Nodes
