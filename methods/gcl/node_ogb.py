"""Node methods on OGB's graphs: the benchmark's own division and evaluator, a loss among sampled nodes.

ogbn-arxiv has 169,343 nodes: all pairs are too many, so the loss takes a few thousand of them a step, as in the
authors' code. A user makes the data's card of the archive once, see `retable data adopt`:

    retable run gcl/node-ogb --scale full --datasets ogbn-arxiv
"""

import math

import torch
from torch import Tensor

from retable.evaluate import contrast
from retable.evaluate.ogb import ogb_score
from retable.evaluate.probes import PENALTIES, fit_logistic
from retable.evaluate.spectra import effective_rank, mean_cosine_similarity
from retable.nn.rows import unit
from retable.plan import Cell
from retable.train.context import Context, Result

from .node import CONTROLS, build, fixed_batch
from .nodes.learners import Learner
from .nodes.task import Task

__all__ = ["evaluate", "fixed_batch", "run"]

# Edges at a time: two gathered copies of 256 features take 0.2 GB.
EDGES_AT_ONCE = 100_000


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and probe it. Accuracies are in percent."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    s = cell.settings
    optimiser = torch.optim.Adam(learner.parameters(), lr=float(s["lr"]), weight_decay=float(s["weight_decay"]))
    epochs = int(s["epochs"]) if s["trained"] else 0
    for epoch in context.epochs(epochs, learner=learner, optimiser=optimiser):
        loss = learner.loss(epoch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        context.log(epoch, loss=loss.item())
    context.save_weights("last", learner.state_dict())
    return measure(cell, task, learner)


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["method"] in CONTROLS:
        return control(cell, context)
    task, learner = build(cell, context)
    learner.load_state_dict(context.load_weights("last"))
    return measure(cell, task, learner)


@torch.no_grad()
def measure(cell: Cell, task: Task, learner: Learner) -> Result:
    """OGB's scores of the frozen representations, and how these lie."""
    z = learner.eval().embed()
    return Result(scores(cell.dataset, task, probe_answers(task, z)) | geometry(task, z))


def control(cell: Cell, context: Context) -> Result:
    """Rows that need no training: the most frequent training class, and the probe on the features themselves."""
    graph, _ = context.data()
    task = Task(graph, cell.settings, context)
    if cell.settings["method"] == "raw-features":
        x = task.view.x
        x = x if isinstance(x, Tensor) else x.csr.to_dense()
        return Result(scores(cell.dataset, task, probe_answers(task, x)) | geometry(task, x))
    most = torch.bincount(task.y[task.train[0]]).argmax()
    return Result(scores(cell.dataset, task, most.expand(1, len(task.y))))


def probe_answers(task: Task, z: Tensor) -> Tensor:
    """Classes (R, N) by logistic regression on the training nodes with each of R penalties; z (N, d), scaled as one."""
    z = z.detach().float()
    z = z - z.mean(0)
    deviation = z.square().mean().sqrt()
    z = z / torch.where(deviation > 0, deviation, 1.0)
    return fit_logistic(z, task.y, task.train, PENALTIES).predict(z)[0]


def scores(dataset: str, task: Task, answers: Tensor) -> dict[str, float]:
    """OGB's evaluator on the test nodes, for those of the answers (R, N) that it likes best on the validation nodes."""
    ((val, test),) = task.protocols.values()
    y = task.y.cpu().numpy()

    def judge(row: Tensor, mask: Tensor) -> float:
        part = mask[0].cpu().numpy()
        return ogb_score(dataset, y[part], row.cpu().numpy()[part])

    on_val = [judge(row, val) for row in answers]
    best = max(range(len(answers)), key=on_val.__getitem__)
    return {"ogb_test_accuracy": judge(answers[best], test), "ogb_val_accuracy": on_val[best]}


def geometry(task: Task, z: Tensor) -> dict[str, float]:
    """The measures of `methods.gcl.node.diagnostics` of z (N, d), without an array of all edges' features.

    Neighbours' cosines are added up in parts. The Dirichlet energy is `(sum u_i . u_i - sum u_i . (A u)_i) / N`, A the
    normalised adjacency.
    """
    u, (source, target) = unit(z), task.view.edges
    ends = zip(source.split(EDGES_AT_ONCE), target.split(EDGES_AT_ONCE), strict=True)
    near = sum((u[a] * u[b]).sum(dtype=torch.float64).item() for a, b in ends)
    energy = (u.square() - u * (task.view.propagate @ u)).sum(dtype=torch.float64).item() / len(u)
    within, between = contrast.within_and_between(z, task.y)
    values: dict[str, float | Tensor] = {
        "mean_cosine": mean_cosine_similarity(z),
        "neighbour_cosine": near / max(len(source), 1),
        "within_class_cosine": within,
        "between_class_cosine": between,
        "dirichlet_energy": energy,
        "uniformity": contrast.uniformity(z),
        "effective_rank": effective_rank(z - z.mean(0)),
        "collapsed": contrast.is_collapsed(z),
    }
    return {name: float(value) for name, value in values.items() if math.isfinite(float(value))}
