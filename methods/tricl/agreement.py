"""Whether two trainings of an encoder find the same features: the paper's theorem asked of images.

A seed trains several networks on the same images, each from weights, orders and views of its own, and compares their
features on the test images:

    retable run tricl/agreement --scale demo
"""

import itertools
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from methods.tricl.images import Training, batch_loss, importance_of, make_learner
from methods.tricl.importance import agreement, importance_order
from methods.tricl.models import TriCL, embed
from methods.tricl.task import Task
from methods.tricl.views import make_view
from retable.cards import CardError
from retable.data import augment
from retable.plan import Cell
from retable.train.context import Context, Result


def build(cell: Cell, context: Context) -> tuple[Task, nn.ModuleList]:
    """Data and untrained networks of a cell; CardError for fewer than two."""
    runs = int(cell.settings["runs"])
    if runs < 2:
        raise CardError(f"runs is {runs}; two or more can agree")
    images, split = context.data()
    task, learners = Task(images, split, context.device), []
    for run in range(runs):
        context.seed_torch("weights", run)
        learners.append(make_learner(cell.settings, images.images.shape[2]).to(context.device))
    return task, nn.ModuleList(learners).to(memory_format=torch.channels_last)


def run(cell: Cell, context: Context) -> Result:
    """Train the networks of one seed side by side, and compare them."""
    task, learners = build(cell, context)
    trainings = [Training(task, cast(TriCL, learner), cell.settings) for learner in learners]
    optimisers = {f"optimiser {number}": training.optimiser for number, training in enumerate(trainings)}
    epochs = int(cell.settings["epochs"]) if cell.settings["trained"] else 0
    for epoch in context.epochs(epochs, phase="", learners=learners, **optimisers):
        losses = []
        for number, training in enumerate(trainings):
            context.seed_torch("epoch", epoch, "run", number)
            losses.append(training.epoch(epoch)["loss"])
        context.log(epoch, loss=sum(losses) / len(losses))
    context.save_weights("last", learners.state_dict())
    return measure(task, learners, int(cell.settings["top_dims"]))


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    task, learners = build(cell, context)
    learners.load_state_dict(context.load_weights("last"))
    return measure(task, learners, int(cell.settings["top_dims"]))


def measure(task: Task, learners: nn.ModuleList, top: int) -> Result:
    """Mean |correlation| over all pairs of networks: of the `top` features at equal ranks and best matched, of all."""
    ordered = [in_order(task, cast(TriCL, learner)) for learner in learners]
    pairs = list(itertools.combinations(ordered, 2))
    of_top = [agreement(one[:, :top], other[:, :top]) for one, other in pairs]
    every = [agreement(one, other) for one, other in pairs]
    by_rank = [[agreement(one[:, [k]], other[:, [k]]).at_equal_ranks for k in range(top)] for one, other in pairs]
    metrics = {
        "agreement": mean([found.at_equal_ranks for found in of_top]),
        "matched_agreement": mean([found.matched for found in of_top]),
        "agreement_all": mean([found.at_equal_ranks for found in every]),
        "matched_agreement_all": mean([found.matched for found in every]),
    }
    return Result(metrics, {"agreement_by_rank": torch.tensor(by_rank).mean(0).tolist()})


def in_order(task: Task, learner: TriCL) -> Tensor:
    """Features (N, D) of the test images, the most important column first."""
    backbone = task.rows(learner.backbone)
    order = importance_order(importance_of(learner, embed(learner.projector, backbone[0])))
    return embed(learner.projector, backbone[2])[:, order]


def mean(values: list[Tensor]) -> float:
    """Of scalars."""
    return torch.stack(values).mean().item()


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The first network and its loss on the first images, with the same views each time."""
    task, learners = build(cell, context)
    learner, view = cast(TriCL, learners[0]), make_view(str(cell.settings["view"]))
    x = augment.to_float(task.train[: int(cell.settings["batch_size"])])

    def loss() -> Tensor:
        context.seed_torch("fixed batch")
        first, second = (task.normalised(view(x)) for _ in range(2))
        return batch_loss(learner, first, second, cell.settings)["loss"]

    return learner, loss
