"""NCN and NCNC on one graph: hidden links are ranked against pairs without a link.

An epoch on Cora takes seconds on one CPU core, the demo less in all:

    retable run ncn/links --scale demo
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from retable.cards import CardError
from retable.evaluate.links import LinkSplit, ranking, split_links, unlinked_pairs
from retable.experiment import Experiment
from retable.nn.scipy_csr import csr_tensor
from retable.nn.sparse import SparseMatrix
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result

from .encoder import PureGCN
from .heuristics import HEURISTICS
from .overlap import Neighbours
from .predictor import Completion, Predictor, link_loss
from .settings import LinkSettings

# Each metric is read at the epoch that is best by it on the validation links.
SELECTED = ("hits_20", "hits_50", "hits_100", "mrr")
PAIRS_AT_ONCE = 20_000


class Task:
    """A graph without its hidden links, features (n, F), and the links to rank, which the run's seed decides."""

    def __init__(self, context: Context) -> None:
        graph, _ = context.data()
        nodes = len(graph.y)
        self.split = split_links(torch.from_numpy(graph.edge_index), nodes, context.derive("links"))
        self.split.check(self.split.visible)
        device = context.device
        self.graph = Neighbours(self.split.visible.to(device), nodes)
        self.x = SparseMatrix(csr_tensor(graph.x)).to(device)
        self.train = self.split.train.to(device)

    def rank(self, part: str, score: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """`ranking` of the links of a part, "val" or "test", by scores (P,) of pairs (2, P)."""
        split: LinkSplit = self.split
        positive, negative = {
            "val": (split.val, split.val_negatives),
            "test": (split.test, split.test_negatives),
        }[part]

        def scores(pairs: Tensor) -> Tensor:
            return torch.cat([score(some.to(self.train.device)) for some in pairs.split(PAIRS_AT_ONCE, dim=1)])

        return ranking(scores(positive), scores(negative))


def heuristic(settings: LinkSettings, context: Context) -> Result:
    """Rank by a score that needs no training, on the same links."""
    task, score = Task(context), HEURISTICS[settings.method]
    test = task.rank("test", lambda pairs: score(task.graph, pairs))
    val = task.rank("val", lambda pairs: score(task.graph, pairs))
    return Result({f"test_{name}": test[name] for name in SELECTED} | {"val_hits_100": val["hits_100"]})


class LinkModel(nn.Module):
    """Encoder and predictor."""

    def __init__(self, features: int, s: LinkSettings) -> None:
        super().__init__()
        self.encoder = PureGCN(
            features,
            s.hidden,
            layers=s.layers,
            features=s.feature_dropout,
            hidden=s.hidden_dropout,
            propagated=s.propagated_dropout,
        )
        completion = Completion(1, s.alpha, s.scale, s.offset, s.pt) if s.method == "ncnc" else None
        self.predictor = Predictor(
            s.hidden,
            common=s.method != "gae",
            completion=completion,
            two_layers=s.two_layers,
            dropout=s.predictor_dropout,
            edge_dropout=s.edge_dropout,
        )

    def loss(self, x: SparseMatrix, graph: Neighbours, positive: Tensor, negative: Tensor) -> Tensor:
        """`link_loss` of pairs (2, P), and (2, Q) without a link, on the states that the graph gives."""
        states = self.encoder(x, graph)
        return link_loss(lambda pairs: self.predictor(states, graph, pairs), positive, negative)


class Links(Experiment[LinkSettings]):
    """Train on the visible links; each metric is read at the epoch that is best by it on the validation links."""

    controls = dict.fromkeys(HEURISTICS, heuristic)
    model: LinkModel

    def __init__(self, settings: LinkSettings, context: Context) -> None:
        super().__init__(settings, context)
        self.task = Task(context)
        if self.task.train.shape[1] < settings.batch_size:
            raise CardError(f"batch_size is {settings.batch_size}, there are {self.task.train.shape[1]} training links")
        context.seed_torch("weights")
        self.model = LinkModel(self.task.x.shape[1], settings).to(context.device)
        self.best = {name: BestCheckpoint() for name in SELECTED}

    def train(self) -> None:
        s, task, model = self.settings, self.task, self.model
        groups = [
            {"params": model.encoder.parameters(), "lr": s.encoder_lr},
            {"params": model.predictor.parameters(), "lr": s.predictor_lr},
        ]
        optimiser = torch.optim.Adam(groups)
        saved: dict[str, Any] = {f"best by {name}": best for name, best in self.best.items()}
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser, **saved):
            model.train()
            losses = []
            negatives = unlinked_pairs(self.task.graph.edge_index, task.graph.nodes, task.train.shape[1])
            order = torch.randperm(task.train.shape[1]).to(task.train.device)
            # As the authors' loader, without an epoch's last, smaller batch.
            for rows in order.split(s.batch_size)[: len(order) // s.batch_size]:
                loss = model.loss(task.x, self._seen(task.train[:, rows]), task.train[:, rows], negatives[:, rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
            val = self._rank("val")
            for name, best in self.best.items():
                best.update(val[name], epoch, model)
            self.context.log(epoch, loss=torch.stack(losses).mean().item(), val_hits_100=val["hits_100"])

    def _seen(self, batch: Tensor) -> Neighbours:
        """The graph that the encoder and the predictor see while the links of a batch (2, B) are scored."""
        return self.task.graph.without(batch) if self.settings.remove_targets else self.task.graph

    @torch.no_grad()
    def _rank(self, part: str) -> dict[str, float]:
        task, model = self.task, self.model.eval()
        states = model.encoder(task.x, task.graph)
        return task.rank(part, lambda pairs: model.predictor(states, task.graph, pairs))

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {name.replace("_", "-"): best.weights for name, best in self.best.items()}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        for name, best in self.best.items():
            best.weights = weights[name.replace("_", "-")]

    def measure(self) -> Result:
        """Hits@K and mean reciprocal rank in percent, on the test links and Hits@100 on the validation links."""
        metrics = {}
        for name, best in self.best.items():
            self.model.load_state_dict(best.weights)
            metrics[f"test_{name}"] = self._rank("test")[name]
            if name == "hits_100":
                metrics["val_hits_100"] = self._rank("val")[name]
        return Result(metrics)

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The first batch's links and as many pairs without one."""
        task, model = self.task, self.model.eval()
        batch = task.train[:, : self.settings.batch_size]
        negatives = unlinked_pairs(task.graph.edge_index, task.graph.nodes, batch.shape[1])
        seen = self._seen(batch)
        return lambda: model.loss(task.x, seen, batch, negatives)


EXPERIMENT = Links
