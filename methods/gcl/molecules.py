"""Graph methods on a set of molecules with one division: an encoder trained without labels, then logistic regression.

OGB's evaluator gives the area under the ROC curve, since hardly four in a hundred molecules are active. The data are
OGB's own archive (ogbg-molhiv), whose card a user makes once, or MoleculeNet's table (molhiv-scaffold):

    retable run gcl/graph-molecules --scale full --datasets molhiv-scaffold
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from retable.data.containers import DataError, NodeSplit
from retable.data.molecules import MoleculeSet
from retable.evaluate.ogb import ogb_score
from retable.evaluate.probes import PENALTIES, fit_logistic
from retable.plan import Cell
from retable.train.context import Context, Result

from .graph import CONTROLS, WITH_SELF_LOOPS, encoder_of, first_batch_loss, geometry, make_learner, train
from .graphs.autogcl import with_degrees
from .graphs.batch import GraphBatch, with_self_loops

# OGB's evaluator of the area under the ROC curve, for its own set and for those that stand in for it.
EVALUATOR = "ogbg-molhiv"


class Task:
    """Molecules as one batch: atoms with OGB's categories as one-hot columns, bonds without a kind; labels y (G,).

    Raises DataError where a part of the division lacks active or inactive molecules: the metric is not defined there.
    """

    def __init__(self, molecules: MoleculeSet, split: NodeSplit, method: str, device: torch.device) -> None:
        for part in ("train", "val", "test"):
            if len(set(molecules.y[getattr(split, part)].tolist())) != 2:
                raise DataError(f"{molecules.name}: the {part} part does not hold both classes")
        whole = GraphBatch(
            one_hot(molecules.node_features, bare=method == "adgcl"),
            torch.from_numpy(molecules.edge_index),
            torch.from_numpy(molecules.node_graph),
            len(molecules.y),
        )
        whole = with_degrees(whole) if method == "autogcl" else whole
        whole = with_self_loops(whole) if method in WITH_SELF_LOOPS else whole
        self.graphs = whole.to(device)
        self.y, self.split = molecules.y, split


def one_hot(categories: np.ndarray, bare: bool = False) -> Tensor:
    """Category numbers (N, A) -> float32 (N, sum of their ranges), or the constant 1 (N, 1) where `bare`."""
    if bare:
        return torch.ones(len(categories), 1)
    sizes = categories.max(axis=0) + 1
    x = torch.zeros(len(categories), int(sizes.sum()))
    return x.scatter_(1, torch.from_numpy(categories + np.cumsum(sizes) - sizes), 1.0)


def build(cell: Cell, context: Context) -> tuple[Task, nn.Module]:
    """Data and untrained learner of a cell; the weights depend on the seed only."""
    task = Task(*context.data(), str(cell.settings["method"]), context.device)
    context.seed_torch("weights")
    return task, make_learner(cell.settings, task.graphs.x.shape[1]).to(context.device)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The learner and its loss on the first batch, with the same draws each time."""
    task, learner = build(cell, context)
    return learner, first_batch_loss(task.graphs, learner, cell.settings, context)


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and measure it. Areas under the ROC curve are in percent."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    return measure(task, train(task.graphs, learner, cell.settings, context))


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    encoder = encoder_of(learner)
    encoder.load_state_dict(context.load_weights("encoder"))
    return measure(task, encoder)


@torch.no_grad()
def measure(task: Task, encoder: nn.Module) -> Result:
    """The area under the ROC curve of logistic regression on the frozen embeddings, and the embeddings' geometry."""
    z = encoder.eval()(task.graphs)[0]
    return Result(areas(task, z) | geometry(z, torch.from_numpy(task.y).to(z.device)))


def control(cell: Cell, context: Context) -> Result:
    """Rows without an encoder: one answer for all, and the regression on atom categories summed over each molecule."""
    task = Task(*context.data(), str(cell.settings["method"]), context.device)
    if cell.settings["method"] == "majority":
        return Result({
            f"ogb_{part}_auc": ogb_score(EVALUATOR, task.y[mask], np.zeros(mask.sum()))
            for part, mask in (("test", task.split.test), ("val", task.split.val))
        })  # fmt: skip
    sums = task.graphs.membership @ task.graphs.x
    return Result(areas(task, sums) | geometry(sums, torch.from_numpy(task.y).to(sums.device)))


def areas(task: Task, z: Tensor) -> dict[str, float]:
    """OGB's evaluator on the test molecules, at the penalty that it likes best on the validation ones.

    z (G, d): each feature is centred and scaled by its mean and deviation over the training molecules.
    """
    train = torch.from_numpy(task.split.train).to(z.device)
    deviation, mean = torch.std_mean(z[train], dim=0, correction=0)
    z = (z - mean) / torch.where(deviation > 0, deviation, 1.0)
    fit = fit_logistic(z, torch.from_numpy(task.y).to(z.device), train[None], PENALTIES)
    active = fit.weight[0, :, :, 1] - fit.weight[0, :, :, 0]  # (R, d)
    logits = (z @ active.T).T.cpu().numpy()
    on_val = [ogb_score(EVALUATOR, task.y[task.split.val], row[task.split.val]) for row in logits]
    best = max(range(len(logits)), key=on_val.__getitem__)
    on_test = ogb_score(EVALUATOR, task.y[task.split.test], logits[best][task.split.test])
    return {"ogb_test_auc": on_test, "ogb_val_auc": on_val[best]}
