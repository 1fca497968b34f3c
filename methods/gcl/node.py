"""Graph contrastive learning on nodes: an encoder trained without labels on one graph, then a linear probe.

GRACE with half of its loss taken out loses little on Cora as long as the encoder is a graph network; an MLP loses
everything. 200 epochs on Cora take a minute or less on one CPU core:

    retable run gcl/node --scale reduced --datasets cora
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from methods.gcl import bgrl, dgi, gca, losses, progcl
from methods.gcl.encoders import GCNEncoder, MLPEncoder, Projector, View, make_normaliser
from methods.gcl.node_augment import add_noise, drop
from retable.cards import CardError, Scalar, unknown
from retable.data.containers import DataError, NodeGraph, distinct_edges
from retable.data.graphs import SparseMatrix, csr_from_entries, row_normalise
from retable.evaluate import contrast
from retable.evaluate.probes import chosen_accuracy, probe
from retable.evaluate.spectra import effective_rank, mean_cosine_similarity
from retable.plan import Cell
from retable.train.best import Best
from retable.train.context import Context, Measured

CONTROLS = ("majority", "raw-features")
SPLITS = 5
# Sparse products gain from this share of stored entries down.
SPARSE_BELOW = 0.25
Masks = dict[str, tuple[Tensor, Tensor]]


class Task:
    """One graph with tensors for training and probing: the whole ``view``, labels ``y`` (N,) and probe masks.

    Edges are made undirected, each once, without self loops. ``train`` bool (S, N), and for each protocol the
    validation and test masks (S, N).
    """

    def __init__(self, graph: NodeGraph, settings: dict[str, Scalar], context: Context) -> None:
        device, nodes = context.device, len(graph.y)
        edges = torch.from_numpy(distinct_edges(graph.edge_index, nodes, loops=False, undirected=True))
        self.view = View.of(_features(graph, bool(settings["row_normalise"]), device), edges.to(device))
        self.y = torch.from_numpy(graph.y).to(device)
        self.train, self.protocols = _masks(graph, str(settings["splits"]), context)

    @property
    def features(self) -> int:
        return self.view.x.shape[1]


def _features(graph: NodeGraph, normalised: bool, device: torch.device) -> Tensor | SparseMatrix:
    x = graph.x
    if x.shape[1] == 0:
        raise DataError(f"{graph.name}: no node features; give each node a one-hot degree or a constant first")
    entries = x.tocoo()
    rows, cols = (torch.from_numpy(place.astype(np.int64)) for place in (entries.row, entries.col))
    csr = csr_from_entries(rows, cols, torch.from_numpy(entries.data), x.shape)
    csr = row_normalise(csr) if normalised else csr
    dense = x.nnz > SPARSE_BELOW * x.shape[0] * x.shape[1]
    return csr.to_dense().to(device) if dense else SparseMatrix(csr).to(device)


def _masks(graph: NodeGraph, kind: str, context: Context) -> tuple[Tensor, Masks]:
    """Training masks (S, N) and, by protocol, validation and test masks.

    "random": five orders drawn from the seed; the first tenth is trained on, in both protocols. "fixed": the data
    set's own splits.
    """
    nodes = len(graph.y)
    if kind == "fixed":
        parts = [(split.train, split.val, split.test) for split in graph.splits.values()]
        train, val, test = (torch.from_numpy(np.stack(part)).to(context.device) for part in zip(*parts, strict=True))
        return train, {"fixed": (val, test)}
    if kind != "random":
        raise CardError(unknown("splits", kind, ["random", "fixed"]))
    if nodes < 10:
        raise DataError(f"{graph.name}: {nodes} nodes cannot be split 10/10/80; at least 10 are needed")
    rank = np.stack([np.random.default_rng(context.derive("split", k)).permutation(nodes) for k in range(SPLITS)])
    share = torch.from_numpy(rank).to(context.device)  # a node's place in each order
    tenth, most = int(0.1 * nodes), int(0.1 * nodes) + int(0.8 * nodes)
    train = share < tenth
    return train, {
        "10_80_10": (~train & (share < most), share >= most),
        "10_10_80": (~train & (share < 2 * tenth), share >= 2 * tenth),
    }


# Learners -------------------------------------------------------------------------------------------------------------


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
        return bgrl.learning_rate(epoch - 1, float(s["lr"]), int(s["warmup"]), int(s["epochs"]))

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


# Training -------------------------------------------------------------------------------------------------------------


def build(cell: Cell, context: Context) -> tuple[Task, Learner]:
    """Data and untrained learner of a cell; the weights depend on the seed only. CardError for an unknown method."""
    method = str(cell.settings["method"])
    if method not in LEARNERS:
        raise CardError(unknown("method", method, [*LEARNERS, *CONTROLS]))
    graph, _ = context.data()
    task = Task(graph, cell.settings, context)
    context.seed_torch("weights")
    return task, LEARNERS[method](task, cell.settings).to(context.device)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The learner and its loss with the same draws each time."""
    _, learner = build(cell, context)

    def loss() -> Tensor:
        context.seed_torch("fixed batch")
        return learner.loss(1)

    return learner, loss


def run(cell: Cell, context: Context) -> Measured:
    """Train one seed and probe it. Accuracies are in percent."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    s = cell.settings

    # Data, model, optimiser
    task, learner = build(cell, context)
    kind = torch.optim.AdamW if s["method"] == "bgrl" else torch.optim.Adam
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimiser = kind(trained, lr=float(s["lr"]), weight_decay=float(s["weight_decay"]))
    best, patience = Best(), int(s["patience"])

    # Loop
    epochs = int(s["epochs"]) if s["trained"] else 0
    for epoch in context.epochs(epochs, learner=learner, optimiser=optimiser, best=best):
        loss = learner.loss(epoch)
        if patience:
            best.update(-loss.item(), epoch, learner)
        for group in optimiser.param_groups:
            group["lr"] = learner.learning_rate(epoch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        learner.after_step(epoch)
        context.log(epoch, loss=loss.item())
        if patience and epoch - best.epoch >= patience:
            break

    if patience and best.weights:
        learner.load_state_dict(best.weights)
    context.keep("last", learner.state_dict())
    return measure(task, learner, context)


def evaluate(cell: Cell, context: Context) -> Measured:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    learner.load_state_dict(context.kept("last"))
    return measure(task, learner, context)


# Evaluation -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def measure(task: Task, learner: Learner, context: Context) -> Measured:
    """Probe accuracies of the frozen representations, and what the loss did to them."""
    z = learner.eval().embed()
    metrics = accuracies(task, z) | diagnostics(task, z)
    context.seed_torch("views to measure")
    if (views := learner.projected_views()) is not None:
        h1, h2 = views
        metrics |= {
            "projected_alignment": contrast.alignment(h1, h2).item(),
            "projected_uniformity": contrast.uniformity(h1).item(),
            "projected_mean_cosine": mean_cosine_similarity(h1).item(),
        }
    return Measured(metrics)


def accuracies(task: Task, z: Tensor) -> dict[str, float]:
    """For each protocol: mean test and validation accuracy over the splits, and the deviation over them."""
    if "fixed" in task.protocols:
        z = nn.functional.normalize(z, dim=1)
    right = probe(z, task.y, task.train)
    metrics = {}
    for name, (val, test) in task.protocols.items():
        on_test, on_val = chosen_accuracy(right, val, test)
        metrics[f"test_accuracy_{name}"] = on_test.mean().item()
        metrics[f"val_accuracy_{name}"] = on_val.mean().item()
        metrics[f"split_deviation_{name}"] = on_test.std().item() if len(on_test) > 1 else 0.0
    return metrics


def diagnostics(task: Task, z: Tensor) -> dict[str, float]:
    """Geometry of the representations (N, d); a measure that the graph does not define is left out."""
    within, between = contrast.within_and_between(z, task.y)
    values: dict[str, Tensor | float] = {
        "mean_cosine": mean_cosine_similarity(z),
        "neighbour_cosine": contrast.neighbour_cosine(z, task.view.edges),
        "within_class_cosine": within,
        "between_class_cosine": between,
        "dirichlet_energy": contrast.dirichlet_energy(z, task.view.edges),
        "uniformity": contrast.uniformity(z),
        "effective_rank": effective_rank(z - z.mean(0)),
        "collapsed": float(contrast.is_collapsed(z)),
    }
    return {name: float(value) for name, value in values.items() if np.isfinite(float(value))}


def control(cell: Cell, context: Context) -> Measured:
    """Rows that need no training: the most frequent training class, and the probe on the features themselves."""
    graph, _ = context.data()
    task = Task(graph, cell.settings, context)
    if cell.settings["method"] == "raw-features":
        x = task.view.x
        x = x if isinstance(x, Tensor) else x.csr.to_dense()
        return Measured(accuracies(task, x) | diagnostics(task, x))
    answers = torch.stack([torch.bincount(task.y[mask]).argmax() for mask in task.train])
    right = (task.y == answers[:, None]).double()
    shares = {name: 100 * (right * test).sum(1) / test.sum(1) for name, (_, test) in task.protocols.items()}
    return Measured({f"test_accuracy_{name}": share.mean().item() for name, share in shares.items()})
