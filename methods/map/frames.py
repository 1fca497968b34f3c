"""Basis ambiguity alone: which weighted graph has this eigenspace, when every instance has another basis of it?

The spectrum of each graph has one multiple eigenvalue; an instance is its eigenspace in a random basis with the nodes
in a random order. A network on sets of nodes (DeepSets) sees the three eigenvectors and nothing else (appendix D).

retable run map/frames --scale demo
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.evaluate.answers import beside
from retable.experiment import Experiment
from retable.train.context import Context, Result

from .canonize import Precision, canonize_basis
from .settings import FramesSettings


@dataclass(frozen=True)
class Instances:
    """Columns (I, n, d) of instances, and the graph of each (I,)."""

    columns: Tensor
    y: Tensor


def draw(frames: Tensor, copies: int, generator: torch.Generator) -> Instances:
    """P U Q of each frame U (G, n, d), float64, with `copies` permutations P and uniform orthogonal Q."""
    graphs, nodes, dim = frames.shape
    y = torch.arange(graphs).repeat_interleave(copies)
    gaussian = torch.randn(len(y), dim, dim, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    turned = frames[y] @ (q * r.diagonal(dim1=1, dim2=2).sign()[:, None])
    order = torch.stack([torch.randperm(nodes, generator=generator) for _ in range(len(y))])
    return Instances(turned.gather(1, order[:, :, None].expand(-1, -1, dim)), y)


class Task:
    """Instances for training and for test; the seed chooses the graphs, the bases and orders, and the division."""

    def __init__(self, s: FramesSettings, context: Context) -> None:
        data, _ = context.data()
        assert data.node_attributes is not None
        generator = torch.Generator().manual_seed(context.derive("graphs and instances"))
        frames = torch.from_numpy(data.node_attributes).double().view(len(data.y), -1, data.node_attributes.shape[1])
        if s.graphs > len(frames):
            raise ValueError(f"graphs = {s.graphs}: {data.name} has {len(frames)}")
        every = draw(frames[torch.randperm(len(frames), generator=generator)[: s.graphs]], s.instances, generator)
        columns = every.columns
        if s.encoding == "map":
            columns = torch.stack([canonize_basis(block, Precision(gap=1e-6))[0] for block in columns])
        order = torch.randperm(len(columns), generator=generator)
        test = round(s.test_share * len(order))
        self.test, self.train = (
            Instances(columns[rows].float().to(context.device), every.y[rows].to(context.device))
            for rows in (order[:test], order[test:])
        )


class DeepSets(nn.Module):
    """Logits of a set of nodes: a network of each, summed, and another one of the sum.

    With `even` each column is read by a network h alone and with the opposite sign, h(u) + h(-u) (SignNet).
    """

    def __init__(self, columns: int, classes: int, hidden: int, *, even: bool) -> None:
        super().__init__()
        self.even = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, hidden)) if even else None
        wide = columns * hidden if even else columns
        self.node = nn.Sequential(nn.Linear(wide, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.graph = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, columns: Tensor) -> Tensor:
        """Logits (B, classes) of columns (B, n, d)."""
        if self.even is not None:
            each = columns[..., None]
            columns = (self.even(each) + self.even(-each)).flatten(2)
        return self.graph(self.node(columns).sum(1))


def majority(settings: FramesSettings, context: Context) -> Result:
    """The graph with the most training instances for every instance."""
    task = Task(settings, context)
    return _measured(torch.bincount(task.train.y).argmax().expand(len(task.test.y)), task.test.y)


def _measured(answers: Tensor, y: Tensor) -> Result:
    return Result({"test_accuracy": 100 * (answers == y).double().mean().item()} | beside("test_accuracy", answers))


class Frames(Experiment[FramesSettings]):
    """Train DeepSets on instances of every graph; the last epoch is evaluated on further ones."""

    controls = {"majority": majority}
    model: DeepSets

    def __init__(self, settings: FramesSettings, context: Context) -> None:
        super().__init__(settings, context)
        s = settings
        self.task = Task(s, context)
        context.seed_torch("weights")
        columns = self.task.train.columns.shape[2]
        self.model = DeepSets(columns, s.graphs, s.hidden, even=s.encoding == "two-branch").to(context.device)

    def train(self) -> None:
        s, train, model = self.settings, self.task.train, self.model
        optimiser = torch.optim.Adam(model.parameters(), lr=s.lr)
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser):
            losses = []
            for rows in torch.randperm(len(train.y)).split(s.batch_size):
                loss = self._loss(rows)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
            self.context.log(epoch, loss=torch.stack(losses).mean().item())

    def _loss(self, rows: Tensor) -> Tensor:
        train = self.task.train
        columns = train.columns[rows]
        if self.settings.encoding == "random-sign":
            columns = columns * (2 * torch.randint(2, (len(rows), 1, columns.shape[2]), device=columns.device) - 1)
        return F.cross_entropy(self.model(columns), train.y[rows])

    @torch.no_grad()
    def measure(self) -> Result:
        """Accuracy in percent on the test instances."""
        return _measured(self.model(self.task.test.columns).argmax(1), self.task.test.y)

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The first training instances."""
        rows = torch.arange(self.settings.batch_size)
        return lambda: self._loss(rows)


EXPERIMENT = Frames
