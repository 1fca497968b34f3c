"""Graph contrastive learning on sets of graphs: an encoder trained without labels, then a linear SVM.

On MUTAG an untrained GIN is within a few points of every trained one, and of any half of the losses. A seed
takes seconds to minutes on one CPU core:

    retable run gcl/graph --scale full --datasets mutag
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from retable.cards import CardError, Scalar, unknown
from retable.data.graph_sets import Folds, GraphSet, node_features, simple_edges
from retable.evaluate import contrast
from retable.evaluate.spectra import effective_rank, mean_cosine_similarity
from retable.evaluate.svm import CrossValidated, majority_cross_validation, svm_cross_validation
from retable.plan import Cell
from retable.train.context import Context, Result, Stateful

from .graphs.adgcl import ADGCL
from .graphs.autogcl import AutoGCL, with_degrees
from .graphs.batch import GraphBatch, batches, with_self_loops
from .graphs.gin import GIN, MLPEncoder
from .graphs.graphcl import GraphCL, two_views
from .graphs.infograph import InfoGraph
from .graphs.joao import JOAO

METHODS = ("graphcl", "infograph", "adgcl", "joao", "autogcl")
CONTROLS = ("majority", "raw-features")
# GraphCL's data access, which JOAO shares, adds self-loops.
WITH_SELF_LOOPS = ("graphcl", "joao")
# These two draw a new order of the graphs for each epoch, the others keep their first one.
SHUFFLED = ("adgcl", "autogcl")
# JOAO judges its augmentations on this share of an epoch's batches.
JUDGED_SHARE = 5


class Task:
    """A set of graphs as one batch with the method's features, classes y (G,) and folds (G,)."""

    def __init__(self, graphs: GraphSet, folds: Folds, settings: dict[str, Scalar], device: torch.device) -> None:
        method = str(settings["method"])
        x = None if method == "adgcl" else node_features(graphs, attributes=bool(settings["node_attributes"]))
        if x is None:
            if method != "adgcl":
                print(f"{graphs.name}: no node features; every node gets the constant 1", file=sys.stderr)
            x = np.ones((len(graphs.node_graph), 1), dtype=np.float32)
        whole = GraphBatch(
            torch.from_numpy(x),
            torch.from_numpy(simple_edges(graphs)),
            torch.from_numpy(graphs.node_graph),
            len(graphs.y),
        )
        whole = with_degrees(whole) if method == "autogcl" else whole
        whole = with_self_loops(whole) if method in WITH_SELF_LOOPS else whole
        self.graphs = whole.to(device)
        self.y, self.folds = graphs.y, folds.number


# Learners -------------------------------------------------------------------------------------------------------------


def make_learner(settings: dict[str, Scalar], features: int) -> nn.Module:
    """The untrained model of a cell, with an `encoder`; weights come from torch's global stream.

    Raises CardError for an unknown method or encoder.
    """
    s, method = settings, str(settings["method"])
    dim, layers = int(s["hidden"]), int(s["layers"])
    if method == "adgcl":
        return ADGCL(features, dim, layers)
    if method == "autogcl":
        return AutoGCL(features, dim, layers)
    kinds: dict[str, type[GraphCL | InfoGraph | JOAO]] = {"graphcl": GraphCL, "infograph": InfoGraph, "joao": JOAO}
    if method not in kinds:
        raise CardError(unknown("method", method, [*METHODS, *CONTROLS]))
    if s["encoder"] == "gin":
        return kinds[method](GIN(features, dim, layers))
    if s["encoder"] == "mlp":
        return kinds[method](MLPEncoder(features, dim))
    raise CardError(unknown("encoder", str(s["encoder"]), ["gin", "mlp"]))


def batch_loss(learner: nn.Module, batch: GraphBatch, settings: dict[str, Scalar], head: int = 0) -> Tensor:
    """What the encoder minimises on a batch; views are drawn from torch's global stream."""
    s, half, tau = settings, str(settings["loss"]), float(settings["tau"])
    if isinstance(learner, InfoGraph):
        return learner.loss(batch, half)
    if isinstance(learner, JOAO):
        return learner.loss(batch, half, tau, head)
    if isinstance(learner, GraphCL):
        ratio, variance = float(s["ratio"]), float(s["noise_variance"])
        views = two_views(batch, str(s["augmentation"]), ratio, variance, bool(s["official_quirks"]))
        return learner.loss(views, half, tau)
    assert isinstance(learner, ADGCL | AutoGCL)
    return learner.loss(batch, half, tau)


def encoder_of(learner: nn.Module) -> nn.Module:
    """What is evaluated: all other parts of a learner serve its loss."""
    return learner.get_submodule("model.encoder" if isinstance(learner, ADGCL) else "encoder")


class Training:
    """A learner with its optimisers and batches."""

    def __init__(self, graphs: GraphBatch, learner: nn.Module, settings: dict[str, Scalar], context: Context) -> None:
        self.learner, self.settings, self.graphs = learner, settings, graphs
        trained = learner.model if isinstance(learner, ADGCL) else learner
        self.optimisers = {"optimiser": torch.optim.Adam(trained.parameters(), lr=float(settings["lr"]), fused=True)}
        if isinstance(learner, ADGCL):
            players = learner.learner.parameters()
            self.optimisers["view_optimiser"] = torch.optim.Adam(players, lr=float(settings["view_lr"]), fused=True)
        self.shuffled = settings["method"] in SHUFFLED
        context.seed_torch("order of graphs")
        self.fixed = [] if self.shuffled else list(self._batches())

    def _batches(self) -> Iterator[GraphBatch]:
        order = torch.randperm(self.graphs.graphs).to(self.graphs.x.device)
        return batches(self.graphs, order, int(self.settings["batch_size"]))

    def parts(self) -> dict[str, Stateful]:
        """What a saved state holds."""
        return {"learner": self.learner, **self.optimisers}

    def epoch(self) -> float:
        """One pass over all graphs; returns the mean loss of a graph."""
        s, learner = self.settings, self.learner.train()
        head = learner.draw_head() if isinstance(learner, JOAO) else 0
        parts = self._batches() if self.shuffled else self.fixed
        total = torch.zeros((), device=self.graphs.x.device)
        for batch in parts:
            if isinstance(learner, ADGCL):
                half, tau, penalty = str(s["loss"]), float(s["tau"]), float(s["penalty"])
                loss = learner.step(batch, half, tau, penalty, *self.optimisers.values())
            else:
                loss = batch_loss(learner, batch, s, head)
                self.optimisers["optimiser"].zero_grad()
                loss.backward()
                self.optimisers["optimiser"].step()
            total += loss.detach() * batch.graphs
        mean = float(total) / self.graphs.graphs
        if isinstance(learner, JOAO) and np.isfinite(mean):
            judged = self.fixed[: len(self.fixed) // JUDGED_SHARE + 1]
            size = int(s["batch_size"])
            learner.update(judged, str(s["loss"]), float(s["tau"]), float(s["gamma"]), size)
        return mean


# Training -------------------------------------------------------------------------------------------------------------


def build(cell: Cell, context: Context) -> tuple[Task, nn.Module]:
    """Data and untrained learner of a cell; the weights depend on the seed only."""
    graphs, folds = context.data()
    task = Task(graphs, folds, cell.settings, context.device)
    context.seed_torch("weights")
    return task, make_learner(cell.settings, task.graphs.x.shape[1]).to(context.device)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The learner and its loss on the first batch, with the same draws each time."""
    task, learner = build(cell, context)
    return learner, first_batch_loss(task.graphs, learner, cell.settings, context)


def first_batch_loss(
    graphs: GraphBatch, learner: nn.Module, settings: dict[str, Scalar], context: Context
) -> Callable[[], Tensor]:
    """The loss on the first graphs, with the same draws each time it is called."""
    order = torch.arange(graphs.graphs, device=graphs.x.device)
    batch = next(batches(graphs, order, int(settings["batch_size"])))

    def loss() -> Tensor:
        context.seed_torch("fixed batch")
        return batch_loss(learner, batch, settings)

    return loss


def train(graphs: GraphBatch, learner: nn.Module, settings: dict[str, Scalar], context: Context) -> nn.Module:
    """Train for the epochs of the recipe, none where it says so; keeps and returns the encoder."""
    training = Training(graphs, learner, settings, context)
    for epoch in context.epochs(int(settings["epochs"]) if settings["trained"] else 0, phase="", **training.parts()):
        context.log(epoch, loss=training.epoch())
    encoder = encoder_of(learner)
    context.save_weights("encoder", encoder.state_dict())
    return encoder


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and measure it. Accuracies are in percent."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    return measure(task, train(task.graphs, learner, cell.settings, context), cell.settings)


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    encoder = encoder_of(learner)
    encoder.load_state_dict(context.load_weights("encoder"))
    return measure(task, encoder, cell.settings)


# Evaluation -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def measure(task: Task, encoder: nn.Module, settings: dict[str, Scalar]) -> Result:
    """The accuracy of both SVM protocols on the frozen embeddings, and the embeddings' geometry."""
    z = encoder.eval()(task.graphs)[0]
    y = torch.from_numpy(task.y).to(z.device)
    return Result(accuracies(z.double().cpu().numpy(), task.y, task.folds, settings) | geometry(z, y))


def accuracies(z: np.ndarray, y: np.ndarray, folds: np.ndarray, settings: dict[str, Scalar]) -> dict[str, float]:
    """Mean and deviation over folds of the authors' protocol, and of the one with standardised features."""
    ends = (float(settings[f"svm_{end}_cost"]) for end in ("lowest", "highest"))
    low, high = (round(np.log10(cost)) for cost in ends)
    costs, inner = tuple(10.0**power for power in range(low, high + 1)), int(settings["svm_inner_folds"])
    plain = svm_cross_validation(z, y, folds, standardise=False, costs=costs, inner=inner)
    standardised = svm_cross_validation(z, y, folds, standardise=True, costs=costs, inner=inner)
    return _named(plain, standardised) | {"svm_unconverged": float(plain.unconverged)}


def geometry(z: Tensor, y: Tensor) -> dict[str, float]:
    """How graph embeddings (G, d) lie; a measure that they do not define is left out."""
    within, between = contrast.within_and_between(z, y)
    values: dict[str, float | Tensor] = {
        "mean_cosine": mean_cosine_similarity(z),
        "within_class_cosine": within,
        "between_class_cosine": between,
        "uniformity": contrast.uniformity(z),
        "effective_rank": effective_rank(z - z.mean(0)),
        "collapsed": float(contrast.is_collapsed(z)),
    }
    return {name: float(value) for name, value in values.items() if np.isfinite(float(value))}


def control(cell: Cell, context: Context) -> Result:
    """Rows without an encoder: the most frequent class, and the SVM on node features summed over each graph."""
    graphs, folds = context.data()
    if cell.settings["method"] == "majority":
        answer = majority_cross_validation(graphs.y, folds.number)
        return Result(_named(answer, answer))
    task = Task(graphs, folds, cell.settings, context.device)
    sums = task.graphs.membership @ task.graphs.x
    z = sums.double().cpu().numpy()
    y = torch.from_numpy(task.y).to(sums.device)
    return Result(accuracies(z, task.y, task.folds, cell.settings) | geometry(sums, y))


def _named(plain: CrossValidated, standardised: CrossValidated) -> dict[str, float]:
    return {
        "svm_accuracy": plain.mean,
        "svm_standardised_accuracy": standardised.mean,
        "svm_fold_deviation": float(plain.accuracies.std()),
    }
