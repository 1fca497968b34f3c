"""LAGRAND: GRAND on the real features and on fixed copies of them, and controls of equal budget.

With a mask of rows m ~ Bernoulli(1 - p)^n, which is not rescaled, a draw of an input X (n, F) is

    log_softmax(MLP(mean over k = 0 .. order of A^k (m X)))

Each input, the real features and the copies, is drawn S times; the loss is that of LAGCN over all draws. Copies are
drawn once and stay. The prediction is that of (1 - p) X, the real features alone (authors' code).

retable run lagnn/grand --scale demo
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.experiment import Experiment
from retable.nn.sparse import SparseMatrix
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result

from .copies import check_copies, make_copies, make_generator
from .model import consistency_loss, random_propagation, supervised_loss
from .run import majority
from .settings import GrandSettings
from .task import Task
from .training import train_generator


class MLP(nn.Module):
    """Two layers with dropout before each, and batch normalisation before that where it is asked for."""

    def __init__(self, features: int, classes: int, s: GrandSettings) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, s.hidden), nn.Linear(s.hidden, classes)
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width) if s.batch_norm else nn.Identity() for width in (features, s.hidden)
        )
        self.rates = s.input_dropout, s.hidden_dropout

    def forward(self, x: Tensor) -> Tensor:
        """log P (n, classes) of x (n, F)."""
        x = self.first(F.dropout(self.norms[0](x), self.rates[0], self.training)).relu()
        return self.second(F.dropout(self.norms[1](x), self.rates[1], self.training)).log_softmax(1)


def masked(x: Tensor, rate: float) -> Tensor:
    """x (n, F) with a share of its rows at 0, the others as they are."""
    return x * (torch.rand(len(x), 1, device=x.device) >= rate)


def draws_of(model: MLP, inputs: Sequence[Tensor], adjacency: SparseMatrix | Tensor, s: GrandSettings) -> Tensor:
    """log P (S len(inputs), n, classes) of S draws of each input (n, F)."""
    return torch.stack(
        [model(random_propagation(masked(x, s.dropnode), adjacency, s.order)) for x in inputs for _ in range(s.draws)]
    )


class Patience:
    """Epochs since the validation loss or accuracy was last as good as ever. Resumable."""

    def __init__(self) -> None:
        self.loss, self.accuracy, self.waited = float("inf"), 0.0, 0

    def update(self, loss: float, accuracy: float) -> None:
        """Note an epoch."""
        self.waited = 0 if loss <= self.loss or accuracy >= self.accuracy else self.waited + 1
        self.loss, self.accuracy = min(loss, self.loss), max(accuracy, self.accuracy)

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Grand(Experiment[GrandSettings]):
    """Train the generator, draw the copies, train the network; the epoch with the lowest validation loss is read."""

    controls = {"majority": majority}
    model: MLP

    def __init__(self, settings: GrandSettings, context: Context) -> None:
        super().__init__(settings, context)
        s = settings
        check_copies(s)
        self.task = task = Task(context)
        context.seed_torch("weights")
        self.model = MLP(task.x.shape[1], task.classes, s).to(context.device)
        self.generator = make_generator(task, s)
        self.chosen, self.patience = BestCheckpoint(), Patience()
        self.evaluated = random_propagation((1 - s.dropnode) * task.normalised, task.adjacency, s.order)

    def train(self) -> None:
        s, task, model = self.settings, self.task, self.model
        if self.generator is not None:
            train_generator(self.generator, task, s, self.context)
        inputs = self.inputs()
        optimiser = torch.optim.Adam(model.parameters(), lr=s.lr, weight_decay=s.weight_decay)
        for epoch in self.context.epochs(
            s.epochs, phase="classifier", model=model, optimiser=optimiser, chosen=self.chosen, patience=self.patience
        ):
            loss = self.loss(inputs)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            log_p = self._log_p()
            val = task.nll(log_p, "val").item()
            self.chosen.update(-val, epoch, model)
            self.patience.update(val, task.metrics(log_p)["val_accuracy"])
            self.context.log(epoch, loss=loss.item(), val_loss=val)
            if self.patience.waited >= s.patience:
                break

    def inputs(self) -> list[Tensor]:
        """The real features and the copies (n, F), the same whenever they are asked for."""
        draw = make_copies(self.task, self.settings, self.generator)
        self.context.seed_torch("fixed copies")
        copies = [copy if isinstance(copy, Tensor) else copy.csr.to_dense() for copy in draw()]
        return [self.task.normalised, *copies]

    def loss(self, inputs: Sequence[Tensor]) -> Tensor:
        """Supervised and consistency loss over all draws of the inputs."""
        s, task = self.settings, self.task
        log_p = draws_of(self.model.train(), inputs, task.adjacency, s)
        supervised = supervised_loss(log_p, task.y, task.nodes["train"])
        return supervised + consistency_loss(log_p, s.temperature, s.consistency)

    @torch.no_grad()
    def _log_p(self) -> Tensor:
        return self.model.eval()(self.evaluated)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {"chosen": self.chosen.weights | {"epoch": torch.tensor(self.chosen.epoch)}}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        self.chosen.weights = dict(weights["chosen"])
        self.chosen.epoch = int(self.chosen.weights.pop("epoch"))

    def measure(self) -> Result:
        """Accuracies in percent of the chosen epoch."""
        self.model.load_state_dict(self.chosen.weights)
        return Result(self.task.metrics(self._log_p()) | {"chosen_epoch": float(self.chosen.epoch)})

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The training nodes; an untrained generator draws."""
        inputs = self.inputs()
        return lambda: self.loss(inputs)


EXPERIMENT = Grand
