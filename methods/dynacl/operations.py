"""How much there is to compute in one seed of a recipe at full scale; the card keeps the numbers."""

from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor, nn

from methods.dynacl.classify import Plan, Training
from methods.dynacl.data import Part, Task
from methods.dynacl.models import Classifier, fixed, make_encoder
from methods.dynacl.run import Story
from retable.operations import counted
from retable.plan import Cell
from retable.train.context import Context

# Training images of CIFAR-10.
IMAGES, SIDE, CLASSES = 50_000, 32, 10


def of_seed(cell: Cell) -> float:
    """Floating-point operations of all training steps; attacks on test images come on top and are left out."""
    if cell.settings["method"] == "majority":
        return 0.0
    s, x, y = cell.settings, torch.rand(2, 3, SIDE, SIDE), torch.zeros(2, dtype=torch.long)
    part = Part(torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8), y)
    task = cast(Task, SimpleNamespace(train=part, unlabelled=part, val=part, test=part, classes=CLASSES))
    # The context draws numbers, which nothing here depends on.
    story = Story(task, s, cast(Context, None))
    pretraining, method, total = story.pretraining, str(s["method"]), 0.0
    if method == "contrastive":
        views = torch.rand(4, 3, SIDE, SIDE)
        attack = int(s["attack_iters"]) * _attack_step(pretraining.pair, views, "pgd") if s["adversarial"] else 0
        pretraining.pair.train()
        step = counted(lambda: pretraining.loss(views, views if s["adversarial"] else None, 1.0))
        total += pretraining.epochs * (attack + step)
        total += sum(_epochs(training, x, y) for training in story.tunings)
    if "labels" not in s:
        return IMAGES / 2 * (total + sum(_epochs(training, x, y) for training in story.trainings.values()))
    # A student's step is TRADES' on the same images: an attack, and clean logits of another network.
    student = Plan("trades", int(s["student_epochs"]), 0.0, 0.0, 2)
    classifier = Classifier(make_encoder(str(s["arch"])), CLASSES)
    total += _epochs(Training(classifier, student, s | {"trades_iters": s["student_iters"]}), x, y)
    share = float(str(s["labels"]).removesuffix("%")) / 100
    return IMAGES / 2 * (total + int(s["teacher_epochs"]) * share * counted(lambda: classifier(x, "normal").sum()))


def _epochs(training: Training, x: Tensor, y: Tensor) -> float:
    """Operations for two images in all epochs; a linear layer's own are a thousandth of the encoder's."""
    plan, classifier, s = training.plan, training.classifier, training.settings
    with torch.no_grad():
        forward = counted(lambda: classifier.encoder(x, plan.route))
    if plan.what == "linear":
        return min(plan.epochs, plan.views) * forward
    trades = plan.what == "trades"
    # TRADES' attack needs the clean predictions once.
    attack = (
        int(s["trades_iters" if trades else "alf_iters"]) * _attack_step(classifier, x, plan.route) + trades * forward
    )
    return plan.epochs * (attack + counted(lambda: training.loss(x, x, y)))


def _attack_step(network: nn.Module, x: Tensor, route: str) -> int:
    """Operations of one step of an attack: a forward pass, and a backward one to the images alone."""
    # The counter cannot be asked for gradients of what a module is given itself, so the images are a product.
    images = x.clone().requires_grad_()
    with fixed(network, route):
        return counted(lambda: network(images * 1.0, route).sum())
