"""LAGCN on Planetoid's splits, and controls of equal budget.

retable run lagnn/nodes --scale demo
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from retable.experiment import Experiment
from retable.nn.graph_layers import Features
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result

from .copies import check_copies, make_copies, make_generator
from .model import LAGCN, consistency_loss, supervised_loss
from .settings import CopiesSettings, NodeSettings
from .task import Task
from .training import train_generator


def majority(settings: CopiesSettings, context: Context) -> Result:
    """The most frequent training class for every node."""
    task = Task(context)
    most = torch.bincount(task.y[task.nodes["train"]], minlength=task.classes).argmax()
    log_p = torch.full((len(task.y), task.classes), float("-inf"))
    log_p[:, most] = 0.0
    return Result(task.metrics(log_p.to(task.y.device)))


class Nodes(Experiment[NodeSettings]):
    """Train the generator, then the network on fresh draws; the best epoch by validation loss is read, with its draw.

    An ensemble trains its members side by side on the real features and averages their predictions.
    """

    controls = {"majority": majority}
    model: nn.ModuleList

    def __init__(self, settings: NodeSettings, context: Context) -> None:
        super().__init__(settings, context)
        s = settings
        check_copies(s)
        self.task = Task(context)
        context.seed_torch("weights")
        members = s.members if s.method == "ensemble" else 1
        self.model = nn.ModuleList(
            LAGCN(self.task.x.shape[1], s.hidden, self.task.classes, s.branches + 1, dropout=s.dropout, init=s.init)
            for _ in range(members)
        ).to(context.device)
        self.generator = make_generator(self.task, s)
        self.chosen = BestCheckpoint()

    def train(self) -> None:
        s, task, model = self.settings, self.task, self.model
        if self.generator is not None:
            train_generator(self.generator, task, s, self.context)
        draw = make_copies(task, s, self.generator)
        optimiser = torch.optim.Adam(model.parameters(), lr=s.lr, weight_decay=s.weight_decay)
        for epoch in self.context.epochs(
            s.epochs, phase="classifier", model=model, optimiser=optimiser, chosen=self.chosen
        ):
            loss = self.loss(draw)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            val = task.nll(self._log_p(draw, epoch), "val").item()
            self.chosen.update(-val, epoch, model)
            self.context.log(epoch, loss=loss.item(), val_loss=val)

    def loss(self, draw: Callable[[], list[Features]]) -> Tensor:
        """Supervised and consistency loss of `draws` forward passes.

        Summed over an ensemble's members, so that weight decay weighs as much as for one network.
        """
        s, task = self.settings, self.task
        total = torch.zeros((), device=task.x.device)
        for member in self.model.train():
            log_p = torch.stack([member([*draw(), task.sparse], task.adjacency) for _ in range(s.draws)])
            total = total + supervised_loss(log_p, task.y, task.nodes["train"])
            total = total + consistency_loss(log_p, s.temperature, s.consistency)
        return total

    @torch.no_grad()
    def _log_p(self, draw: Callable[[], list[Features]], epoch: int) -> Tensor:
        """log P (n, classes) on a draw of the epoch's own; of an ensemble the logarithm of the members' mean P."""
        self.model.eval()
        self.context.seed_torch("draw to evaluate", epoch)
        p = [member([*draw(), self.task.sparse], self.task.adjacency).exp() for member in self.model]
        return torch.stack(p).mean(0).log()

    def weights(self) -> dict[str, dict[str, Tensor]]:
        # The epoch decides the draw of its evaluation.
        kept = {"chosen": self.chosen.weights | {"epoch": torch.tensor(self.chosen.epoch)}}
        return kept if self.generator is None else kept | {"generator": self.generator.state_dict()}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        self.chosen.weights = dict(weights["chosen"])
        self.chosen.epoch = int(self.chosen.weights.pop("epoch"))
        if self.generator is not None:
            self.generator.load_state_dict(weights["generator"])

    def measure(self) -> Result:
        """Accuracies in percent of the chosen epoch with its own draw, as the authors evaluate it."""
        epoch = self.chosen.epoch
        self.model.load_state_dict(self.chosen.weights)
        draw = make_copies(self.task, self.settings, self.generator)
        return Result(self.task.metrics(self._log_p(draw, epoch)) | {"chosen_epoch": float(epoch)})

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The training nodes; an untrained generator draws."""
        draw = make_copies(self.task, self.settings, self.generator)
        return lambda: self.loss(draw)


EXPERIMENT = Nodes
