"""Floating-point operations of one seed of a recipe at full scale; the card keeps the numbers."""

import torch
from torch import Tensor

from methods.umae.pretrain import Objective, Pretrain, make_model
from methods.umae.settings import PretrainSettings, TransferSettings
from methods.umae.vit import SIZES, Encoder
from retable.operations import counted
from retable.plan import Cell

# Training images, their side, classes. ImageNet-100: 1,300 images a class at most, some have fewer.
DATA = {"cifar10": (50_000, 32, 10), "imagenet": (1_281_167, 224, 1000), "imagenet-100": (126_689, 224, 100)}


def of_seed(cell: Cell) -> float:
    """Operations of all training steps; the evaluation of frozen features, a small part, is left out."""
    kind = TransferSettings if "evaluation" in cell.settings else PretrainSettings
    s = kind.parse(cell.settings, cell.slug)
    images, side, classes = DATA[cell.dataset]
    batch, labels = torch.rand(2, 3, side, side), torch.zeros(2, dtype=torch.long)
    total = 0.0
    if s.trained and cell.variant not in Pretrain.controls:
        model = make_model(s, side, 3, classes)
        noise = model.draw(2, batch.device)
        steps = images // s.batch_size * s.epochs
        total += steps * s.batch_size / 2 * counted(lambda: Objective(model, s)(batch, labels, noise)[0])
    if isinstance(s, TransferSettings):
        steps = images // s.tune_batch_size * s.tune_epochs
        encoder, tuned = Encoder(SIZES[s.size], side), s.evaluation == "fine-tune"

        def evaluation() -> Tensor:
            # Without the last linear layer, a thousandth of it.
            return encoder.pooled(batch).sum() if tuned else encoder.features(batch)["cls"].detach()

        with torch.set_grad_enabled(tuned):
            total += steps * s.tune_batch_size / 2 * counted(evaluation)
    return total
