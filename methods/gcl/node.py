"""Graph contrastive learning on nodes: an encoder trained without labels on one graph, then a linear probe.

GRACE with half of its loss taken out loses little on Cora as long as the encoder is a graph network; an MLP loses
everything. 200 epochs on Cora take a minute or less on one CPU core:

    retable run gcl/node --scale reduced --datasets cora
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from retable.cards import CardError, unknown
from retable.evaluate import contrast
from retable.evaluate.probes import chosen_accuracy, probe
from retable.evaluate.spectra import effective_rank, mean_cosine_similarity
from retable.plan import Cell
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result
from retable.train.schedules import set_rate

from .nodes.learners import LEARNERS, Learner
from .nodes.task import Task

CONTROLS = ("majority", "raw-features")


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


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and probe it. Accuracies are in percent."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    s = cell.settings

    # Data, model, optimiser
    task, learner = build(cell, context)
    kind = torch.optim.AdamW if s["method"] == "bgrl" else torch.optim.Adam
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimiser = kind(trained, lr=float(s["lr"]), weight_decay=float(s["weight_decay"]))
    best, patience = BestCheckpoint(), int(s["patience"])

    # Loop
    epochs = int(s["epochs"]) if s["trained"] else 0
    for epoch in context.epochs(epochs, learner=learner, optimiser=optimiser, best=best):
        loss = learner.loss(epoch)
        if patience:
            best.update(-loss.item(), epoch, learner)
        set_rate(optimiser, learner.learning_rate(epoch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        learner.after_step(epoch)
        context.log(epoch, loss=loss.item())
        if patience and epoch - best.epoch >= patience:
            break

    if patience and best.weights:
        learner.load_state_dict(best.weights)
    context.save_weights("last", learner.state_dict())
    return measure(task, learner, context)


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    learner.load_state_dict(context.load_weights("last"))
    return measure(task, learner, context)


# Evaluation -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def measure(task: Task, learner: Learner, context: Context) -> Result:
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
    return Result(metrics)


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


def control(cell: Cell, context: Context) -> Result:
    """Rows that need no training: the most frequent training class, and the probe on the features themselves."""
    graph, _ = context.data()
    task = Task(graph, cell.settings, context)
    if cell.settings["method"] == "raw-features":
        x = task.view.x
        x = x if isinstance(x, Tensor) else x.csr.to_dense()
        return Result(accuracies(task, x) | diagnostics(task, x))
    answers = torch.stack([torch.bincount(task.y[mask]).argmax() for mask in task.train])
    right = (task.y == answers[:, None]).double()
    shares = {name: 100 * (right * test).sum(1) / test.sum(1) for name, (_, test) in task.protocols.items()}
    return Result({f"test_accuracy_{name}": share.mean().item() for name, share in shares.items()})
