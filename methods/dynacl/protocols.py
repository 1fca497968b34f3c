"""A model of somebody else's under this paper's attacks: `retable.benchmark(model, protocol="dynacl/pretrain")`."""

from collections.abc import Callable

import torch
from torch import Tensor

from retable.data.augment import to_float
from retable.evaluate.attacks import auto_attack
from retable.train.context import Context

from .data import Task
from .robustness import AUTOATTACK_METRICS, counted, pgd_images, predictions
from .settings import PretrainSettings


def pretrain(model: Callable[[Tensor], Tensor], settings: PretrainSettings, context: Context) -> dict[str, float]:
    """From images (N, 3, H, W) in [0, 1] to logits (N, C), differentiable: accuracy, under PGD and under AutoAttack."""
    task = Task(*context.data(), context.device)
    some, few = task.test.first(settings.attacked_images), task.test.first(settings.aa_images)
    metrics = counted("accuracy", predictions(model, to_float(task.test.x)), task.test.y)
    with torch.enable_grad():
        metrics |= counted("pgd_accuracy", predictions(model, pgd_images(model, some, settings, context)), some.y)
        _, answers = auto_attack(
            model, to_float(few.x), few.y, eps=settings.eps, seed=context.derive("autoattack"),
            version=settings.aa_version, iterations=settings.aa_iterations,
        )  # fmt: skip
    return metrics | counted(AUTOATTACK_METRICS[settings.aa_version], answers, few.y)


PROTOCOLS = {"run": pretrain}
