"""The methods on nodes as learners: what each one's loss is, and which representations are probed."""

import torch
from torch import Tensor, nn

from retable.cards import CardError, Scalar, unknown
from retable.train.schedules import warmup_cosine

from .. import losses
from . import bgrl, dgi, gca, progcl
from .augment import add_noise, drop
from .encoders import GCNEncoder, MLPEncoder, Projector, make_normaliser
from .task import Task


class Learner(nn.Module):
    """A model with its objective: ``loss`` draws from torch's global stream, ``embed`` gives what is probed."""

    def __init__(self, task: Task, settings: dict[str, Scalar]) -> None:
        super().__init__()
        self.task, self.settings = task, settings

    def loss(self, epoch: int) -> Tensor:
        """Training loss of one step; epochs count from 1."""
        raise NotImplementedError

    def embed(self) -> Tensor:
        """Representations (N, d) of the whole graph."""
        raise NotImplementedError

    def learning_rate(self, epoch: int) -> float:
        return float(self.settings["lr"])

    def after_step(self, epoch: int) -> None:
        """What follows the optimiser's step."""

    def projected_views(self) -> tuple[Tensor, Tensor] | None:
        """Two augmented views where the loss acts (N, d), for alignment and uniformity."""
        return None


class Grace(Learner):
    """GRACE: two views, one encoder and projector, and a loss between nodes. GCA draws views by centrality; ProGCL
    weights the negatives from some epoch on too.
    """

    def __init__(self, task: Task, settings: dict[str, Scalar]) -> None:
        super().__init__(task, settings)
        s, width = settings, int(settings["hidden"])
        norm = make_normaliser(str(s["normaliser"]), width, float(s["norm_scale"]))
        if s["encoder"] == "gcn":
            self.encoder: nn.Module = GCNEncoder(task.features, width, int(s["layers"]), str(s["activation"]), norm)
        elif s["encoder"] == "mlp":
            self.encoder = MLPEncoder(task.features, width, norm)
        else:
            raise CardError(unknown("encoder", str(s["encoder"]), ["gcn", "mlp"]))
        self.projector = Projector(width, int(s["projection"]))
        self.drops = [self._drop_probabilities(view) for view in ("1", "2")]

    def _drop_probabilities(self, view: str) -> tuple[float | Tensor, float | Tensor]:
        s, graph = self.settings, self.task.view
        edge_p, column_p = float(s[f"drop_edges_{view}"]), float(s[f"drop_features_{view}"])
        if s["method"] == "grace":
            return edge_p, column_p
        scheme, nodes = str(s["centrality"]), graph.x.shape[0]
        of_edges = gca.drop_probabilities(gca.edge_weights(graph.edges, nodes, scheme), edge_p)
        present = gca.indicator(graph.x)
        if s["official_quirks"] and bool((gca.node_counts(present) == 0).any()):
            return of_edges, gca.MOST
        if s["official_quirks"] and s["method"] == "gca" and scheme == "eigenvector":
            return of_edges, column_p
        centrality = gca.node_centrality(graph.edges, nodes, scheme)
        return of_edges, gca.drop_probabilities(gca.feature_weights(present, centrality), column_p)

    def views(self) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Projected views (N, d), the same tensor twice where nothing is drawn, and their edges."""
        kind, whole = self.settings["augmentation"], self.task.view
        if kind == "own":
            first, second = (drop(whole, *p) for p in self.drops)
            h1, h2 = (self.projector(self.encoder(view)) for view in (first, second))
            return h1, h2, (first.edges, second.edges)
        z = self.encoder(whole)
        edges = whole.edges, whole.edges
        if kind == "none":
            h = self.projector(z)
            return h, (self.projector(self.encoder(whole)) if self._draws() else h), edges
        if kind == "noise":
            variance = float(self.settings["noise_variance"])
            h1, h2 = (self.projector(add_noise(z, torch.randn_like(z), variance)) for _ in range(2))
            return h1, h2, edges
        raise CardError(unknown("augmentation", str(kind), ["own", "none", "noise"]))

    def _draws(self) -> bool:
        """Whether two passes over one graph differ: dropout, random slopes."""
        return self.training and (self.settings["encoder"] == "mlp" or self.settings["activation"] == "rrelu")

    def loss(self, epoch: int) -> Tensor:
        h1, h2, edges = self.views()
        loss, tau, sample = str(self.settings["loss"]), float(self.settings["tau"]), int(self.settings["sample"])
        if 0 < sample < len(h1):
            nodes = torch.randperm(len(h1), device=h1.device)[:sample]
            per_node = losses.sampled_losses(h1, h2, tau, loss, (nodes, nodes))
        else:
            per_node = losses.node_losses(h1, h2, tau, loss, edges)
        # The authors' GCA trainer sums over nodes where it means to average.
        summed = self.settings["official_quirks"] and self.settings["method"] == "gca"
        return per_node.sum() if summed else per_node.mean()

    def embed(self) -> Tensor:
        return self.encoder(self.task.view)

    def projected_views(self) -> tuple[Tensor, Tensor]:
        return self.views()[:2]


class ProGCL(Grace):
    """GCA whose negatives are weighted from epoch ``weights_from`` on, by a Beta mixture fitted there once."""

    fitted: Tensor
    fit_views: Tensor
    fit_columns: Tensor

    def __init__(self, task: Task, settings: dict[str, Scalar]) -> None:
        super().__init__(task, settings)
        nodes, width = len(task.y), int(settings["hidden"])
        # What the weights follow from: so a saved state needs no N x N array.
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("fit_views", torch.zeros(2, nodes, width))
        self.register_buffer("fit_columns", torch.zeros(min(progcl.FIT_COLUMNS, nodes), dtype=torch.long))
        self._weights: Tensor | None = None

    def loss(self, epoch: int) -> Tensor:
        s, loss, tau = self.settings, str(self.settings["loss"]), float(self.settings["tau"])
        if epoch < int(s["weights_from"]):
            return super().loss(epoch)
        h1, h2, _ = self.views()
        if loss == "no-negatives":
            # The authors' code flips the sign here and pushes the pairs apart.
            sign = -1 if s["official_quirks"] else 1
            return sign * losses.node_losses(h1, h2, tau, loss).mean()
        weights = self.pair_weights(h1, h2)
        both = [progcl.weighted_losses(a, b, weights, tau, loss) for a, b in ((h1, h2), (h2, h1))]
        return torch.stack(both).mean()

    def pair_weights(self, h1: Tensor, h2: Tensor) -> Tensor:
        """B (N, N), from the views of the first epoch that asks for it, anchors in view 2 as in the authors' code."""
        if not self.fitted:
            self.fit_views = torch.stack([h2, h1]).detach()
            self.fit_columns = torch.randperm(len(h1), device=h1.device)[: len(self.fit_columns)]
            self.fitted = torch.ones_like(self.fitted)
            self._weights = None
        if self._weights is None:
            start = float(self.settings["weight_init"])
            self._weights = progcl.fit_pair_weights(self.fit_views[0], self.fit_views[1], self.fit_columns, start)
        return self._weights


class Bootstrap(Learner):
    """BGRL; the settings ``hidden`` and ``out`` are its encoder's two widths."""

    def __init__(self, task: Task, settings: dict[str, Scalar]) -> None:
        super().__init__(task, settings)
        s = settings
        self.model = bgrl.BGRL(task.features, (int(s["hidden"]), int(s["out"])), int(s["predictor"]))

    def loss(self, epoch: int) -> Tensor:
        s = self.settings
        first, second = (
            drop(self.task.view, float(s[f"drop_edges_{i}"]), float(s[f"drop_features_{i}"])) for i in (1, 2)
        )
        return bgrl.bootstrap_loss(*self.model(first, second))

    def embed(self) -> Tensor:
        return self.model.online(self.task.view)

    def learning_rate(self, epoch: int) -> float:
        s = self.settings
        return warmup_cosine(epoch - 1, float(s["lr"]), int(s["warmup"]), int(s["epochs"]))

    def after_step(self, epoch: int) -> None:
        momentum = float(self.settings["target_momentum"])
        self.model.follow(bgrl.target_momentum(epoch - 1, momentum, int(self.settings["epochs"])))


class Discriminate(Learner):
    """DGI and MVGRL; they stop when the training loss has not fallen for ``patience`` epochs."""

    def __init__(self, task: Task, settings: dict[str, Scalar]) -> None:
        super().__init__(task, settings)
        view, width = task.view, int(settings["hidden"])
        if settings["method"] == "dgi":
            self.model: dgi.DGI | dgi.MVGRL = dgi.DGI(task.features, width)
            self.operators: tuple = (view.propagate,)
        else:
            self.model = dgi.MVGRL(task.features, width)
            self.operators = dgi.mvgrl_operators(view.edges, len(task.y), view.propagate.csr.dtype)

    def loss(self, epoch: int) -> Tensor:
        x = self.task.view.x
        shuffle = torch.randperm(x.shape[0], device=self.task.y.device)
        real, fake = self.model(x, *self.operators, shuffle)
        return dgi.discrimination_loss(real, fake, str(self.settings["loss"]))

    def embed(self) -> Tensor:
        return self.model.embed(self.task.view.x, *self.operators)


LEARNERS: dict[str, type[Learner]] = {
    "grace": Grace,
    "gca": Grace,
    "progcl": ProGCL,
    "bgrl": Bootstrap,
    "dgi": Discriminate,
    "mvgrl": Discriminate,
}
