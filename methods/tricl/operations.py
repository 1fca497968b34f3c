"""How much there is to compute in one seed of a recipe at full scale; the card keeps the numbers."""

import torch

from methods.tricl.images import CONTROLS, batch_loss, make_learner
from retable.operations import counted
from retable.plan import Cell

# Training images and their side. ImageNet-100: 1,300 images a class at most, some have fewer.
DATA = {"cifar10": (50_000, 32), "imagenet-100": (126_689, 224)}


def of_seed(cell: Cell) -> float:
    """Floating-point operations of all training steps; what judges the features is a small part and left out."""
    s = cell.settings
    if s["loss"] in CONTROLS or not s["trained"]:
        return 0.0
    images, side = DATA[cell.dataset]
    learner, view, batch = make_learner(s, side), torch.rand(2, 3, side, side), int(s["batch_size"])
    seen = images // batch * batch * int(s["epochs"]) * int(s.get("runs", 1))
    return seen / 2 * counted(lambda: batch_loss(learner, view, view, s)["loss"])
