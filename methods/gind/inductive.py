"""GIND on graphs that were not trained on, with several labels for each node (PPI).

The authors' form of this task counts each edge once; the number is the micro-averaged F1. A GPU is wanted:

    retable data adopt ppi ~/ppi.zip
    retable run gind/inductive --scale full --datasets ppi
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retable.data.edges import distinct_edges
from retable.experiment import BestEpochExperiment
from retable.train.context import Context, Result

from .implicit import Diffusion, cut, node_scale
from .model import GIND
from .networks import GCN, make_model, make_optimiser
from .settings import InductiveSettings

Graph = tuple[Tensor, Diffusion, Tensor]


class Task:
    """For each part its graphs: features (n, F), the operator and labels (n, T)."""

    def __init__(self, s: InductiveSettings, context: Context) -> None:
        data, split = context.data()
        bounds = np.searchsorted(data.node_graph, np.arange(int(data.node_graph.max()) + 2))
        owner = data.node_graph[data.edge_index[0]]
        self.parts: dict[str, list[Graph]] = {}
        for part, mask in vars(split).items():
            self.parts[part] = []
            for graph in np.flatnonzero(mask):
                rows = slice(bounds[graph], bounds[graph + 1])
                edges = data.edge_index[:, owner == graph] - bounds[graph]
                x, y = (torch.from_numpy(array[rows]).to(context.device) for array in (data.x, data.y))
                self.parts[part].append((x, operator(edges, len(x), s, context.device), y.float()))
        self.features, self.labels = data.x.shape[1], data.y.shape[1]


def operator(edges: np.ndarray, nodes: int, s: InductiveSettings, device: torch.device) -> Diffusion:
    """GIND's operator with each edge once; for the GCN with both directions."""
    both = torch.from_numpy(distinct_edges(edges, nodes, loops=False, undirected=True))
    if s.method == "gcn":
        links, scale = both, node_scale(both, nodes, self_loops=s.self_loops)
    else:
        links, scale = cut(both, nodes, self_loops=s.self_loops)
    # The authors pass the graph of each node, which makes the norm one of mean squares.
    return Diffusion(links.to(device), scale.to(device), torch.zeros(nodes, dtype=torch.long, device=device))


def micro_f1(answers: Tensor, y: Tensor) -> float:
    """2 TP / (2 TP + FP + FN) in percent over all nodes and labels, of answers and labels (n, T), 0 or 1."""
    right = (answers * y).sum().item()
    total = (answers.sum() + y.sum()).item()
    return 200 * right / total if total else 0.0


def majority(settings: InductiveSettings, context: Context) -> Result:
    """The labels that more than half of the training nodes have, for every node."""
    task = Task(settings, context)
    often = (torch.cat([y for _, _, y in task.parts["train"]]).mean(0) > 0.5).float()
    ys = {part: torch.cat([y for _, _, y in task.parts[part]]) for part in ("val", "test")}
    return Result({f"{part}_micro_f1": micro_f1(often.expand_as(y), y) for part, y in ys.items()})


class Inductive(BestEpochExperiment[InductiveSettings]):
    """Train on one graph after the other; the epoch is chosen by the validation graphs' F1."""

    controls = {"majority": majority}
    model: GIND | GCN

    def __init__(self, settings: InductiveSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.task = Task(settings, context)
        context.seed_torch("weights")
        self.model = make_model(settings, self.task.features, self.task.labels).to(context.device)

    def train(self) -> None:
        s, model = self.settings, self.model
        optimiser = make_optimiser(model, s)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, s.lr_every, s.lr_factor)
        parts = self.task.parts["train"]
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser, schedule=schedule, best=self.best):
            model.train()
            losses = []
            for place in torch.randperm(len(parts)).tolist():
                loss = self._loss(parts[place])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
            schedule.step()
            val = self._f1("val")
            self.best.update(val, epoch, model)
            self.context.log(epoch, loss=torch.stack(losses).mean().item(), val_micro_f1=val)
            if epoch - self.best.epoch >= s.patience:
                break

    def _loss(self, graph: Graph) -> Tensor:
        x, diffusion, y = graph
        return F.binary_cross_entropy_with_logits(self.model(x, diffusion), y)

    @torch.no_grad()
    def _f1(self, part: str) -> float:
        self.model.eval()
        graphs = self.task.parts[part]
        answers = torch.cat([(self.model(x, diffusion) > 0).float() for x, diffusion, _ in graphs])
        return micro_f1(answers, torch.cat([y for _, _, y in graphs]))

    def measure(self) -> Result:
        """Micro-averaged F1 in percent at the epoch with the best validation F1."""
        self.model.load_state_dict(self.best.weights)
        return Result({f"{part}_micro_f1": self._f1(part) for part in ("val", "test")})

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The first training graph, without dropout."""
        self.model.eval()
        return lambda: self._loss(self.task.parts["train"][0])


EXPERIMENT = Inductive
