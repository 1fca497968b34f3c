"""How much there is to compute in one seed of a recipe at full scale; the card keeps the numbers."""

import torch
from torch import Tensor

from methods.umae.models import SIZES, Encoder
from methods.umae.pretrain import CONTROLS, make_model, objective
from retable.operations import counted
from retable.plan import Cell

# Training images, their side, classes. ImageNet-100: 1,300 images a class at most, some have fewer.
DATA = {"cifar10": (50_000, 32, 10), "imagenet": (1_281_167, 224, 1000), "imagenet-100": (126_689, 224, 100)}


def of_seed(cell: Cell) -> float:
    """Floating-point operations of all training steps; what judges the features is a small part and left out."""
    s = cell.settings
    images, side, classes = DATA[cell.dataset]
    two, labels = torch.rand(2, 3, side, side), torch.zeros(2, dtype=torch.long)

    def evaluation() -> Tensor:
        # Without the last linear layer, which is a thousandth of it.
        encoder = Encoder(SIZES[str(s["size"])], side)
        if s["evaluation"] == "fine-tune":
            return encoder.pooled(two).sum()
        return encoder.features(two)["cls"].detach()

    total = 0.0
    if s["trained"] and s["model"] not in CONTROLS:
        seen = images // int(s["batch_size"]) * int(s["batch_size"]) * int(s["epochs"])
        total += seen / 2 * counted(lambda: objective(make_model(s, side, 3, classes), two, labels, s)[0])
    if "evaluation" in s:
        seen = images // int(s["tune_batch_size"]) * int(s["tune_batch_size"]) * int(s["tune_epochs"])
        with torch.set_grad_enabled(s["evaluation"] == "fine-tune"):
            total += seen / 2 * counted(evaluation)
    return total
