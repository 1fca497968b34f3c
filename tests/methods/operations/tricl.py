"""Floating-point operations of one seed of a recipe at full scale; the card keeps the numbers."""

import torch

from methods.tricl.encoder import batch_loss, make_encoder
from methods.tricl.images import Images
from methods.tricl.settings import EXPERIMENTS, AgreementSettings, ImageSettings
from retable.operations import counted
from retable.plan import Cell

# Training images and their side. ImageNet-100: 1,300 images a class at most, some have fewer.
DATA = {"cifar10": (50_000, 32), "imagenet-100": (126_689, 224)}


def of_seed(cell: Cell) -> float:
    """All training steps; the evaluation of features is a small part and left out."""
    s = EXPERIMENTS["images" if cell.recipe == "importance" else cell.recipe].parse(cell.settings, cell.recipe)
    assert isinstance(s, ImageSettings)
    if cell.variant in Images.controls or not s.trained:
        return 0.0
    images, side = DATA[cell.dataset]
    seen = images // s.batch_size * s.batch_size * s.epochs * (s.runs if isinstance(s, AgreementSettings) else 1)
    model, view = make_encoder(s, side), torch.rand(2, 3, side, side)
    return seen / 2 * counted(lambda: batch_loss(model, view, view, s)["loss"])
