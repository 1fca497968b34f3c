"""Floating-point operations of one seed of the vision recipe at full scale; the card keeps the numbers."""

import torch
import torch.nn.functional as F

from methods.contranorm.settings import VisionSettings
from methods.contranorm.vision import make_model
from retable.operations import counted
from retable.plan import Cell

# Training images and classes. ImageNet-100: 1,300 images a class at most, some have fewer.
DATA = {"imagenet": (1_281_167, 1000), "imagenet-100": (126_689, 100)}


def of_seed(cell: Cell) -> float:
    """Floating-point operations of all training steps; evaluation, a small part, is left out."""
    images, classes = DATA[cell.dataset]
    s = VisionSettings.parse(cell.settings, cell.slug)
    model, two = make_model(s, classes), torch.rand(2, 3, s.image_size, s.image_size)
    seen = images // s.batch * s.batch * s.epochs
    return seen / 2 * counted(lambda: F.cross_entropy(model(two), torch.zeros(2, dtype=torch.long)))
