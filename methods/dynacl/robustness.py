"""Evaluation of a classifier on clean, attacked and corrupted test images, a picture, and a cheap probe."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.data.augment import to_float
from retable.evaluate.answers import beside
from retable.evaluate.attacks import Model, auto_attack, pgd_examples
from retable.train.context import Context

from .corruptions import corrupted
from .data import Part, Task
from .models import Branch, Classifier, Encoder, folded_batchnorm
from .settings import PretrainSettings

# Images of a forward pass.
CHUNK = 1000
# AutoAttack's metric by its version: only the standard one may bear the name.
AUTOATTACK_METRICS = {"standard": "autoattack_accuracy", "lite": "aa_lite_accuracy"}
# Percentages of pre-training at which the learning curve is measured.
CURVE_SHARES = (20, 40, 60, 80, 100)
CURVE_IMAGES, CURVE_STEPS, RIDGE = 200, 10, 1e-2
PICTURED, AMPLIFICATION = 8, 8


def robustness(
    classifier: Classifier, bn_branch: Branch, task: Task, s: PretrainSettings, context: Context
) -> dict[str, float]:
    """Accuracies in percent: all test images clean, subsets corrupted, under PGD and under AutoAttack."""
    some, few = task.test.first(s.attacked_images), task.test.first(s.aa_images)
    with frozen(classifier, bn_branch) as model:
        metrics = counted("accuracy", predictions(model, to_float(task.test.x)), task.test.y)
        metrics |= counted("pgd_accuracy", predictions(model, pgd_images(model, some, s, context)), some.y)
        seed = context.derive("autoattack")
        _, answers = auto_attack(
            model, to_float(few.x), few.y, eps=s.eps, seed=seed, version=s.aa_version, iterations=s.aa_iterations
        )
        metrics |= counted(AUTOATTACK_METRICS[s.aa_version], answers, few.y)
        on_corrupted = torch.stack([model(images).argmax(1) for _, _, images in corrupted(to_float(some.x))])
        metrics |= counted("corruption_accuracy", on_corrupted, some.y)
    return metrics


def counted(metric: str, answers: Tensor, y: Tensor) -> dict[str, float]:
    """Percent of the answers (N,), or of several ones' (M, N), that are y (N,), and what is recorded beside."""
    right = 100 * (answers == y).double().mean().item()
    return {metric: right} | beside(metric, *answers.view(-1, len(y)))


@contextmanager
def frozen(classifier: Classifier, bn_branch: Branch) -> Iterator[Model]:
    """`classifier` as a function of images alone, without gradients of its weights."""
    linear = classifier.linear
    weight, bias = linear.weight.detach(), linear.bias.detach()
    with folded_batchnorm(classifier, bn_branch):
        yield lambda x: F.linear(classifier.encoder(x, bn_branch), weight, bias)


@torch.no_grad()
def predictions(model: Model, x: Tensor) -> Tensor:
    """Classes (N,) that `model` gives to images (N, 3, H, W) in [0, 1]."""
    return torch.cat([model(images) for images in x.split(CHUNK)]).argmax(1)


def accuracy(model: Model, x: Tensor, y: Tensor) -> float:
    """Percent of images (N, 3, H, W) in [0, 1] that `model` classifies as y (N,)."""
    return 100 * (predictions(model, x) == y).double().mean().item()


def pgd_images(model: Model, part: Part, s: PretrainSettings, context: Context) -> Tensor:
    """The images of `part` under the evaluation's PGD, from starts that only the run's seed decides."""
    context.seed_torch("evaluation attack")
    return torch.cat(
        [
            pgd_examples(model, x, y, eps=s.eps, step=s.step_size, iterations=s.pgd_iters)
            for x, y in zip(to_float(part.x).split(CHUNK), part.y.split(CHUNK), strict=True)
        ]
    )


def show(classifier: Classifier, bn_branch: Branch, task: Task, s: PretrainSettings, context: Context) -> None:
    """A picture: test images, their adversarial versions, and the difference."""
    few = task.test.first(PICTURED)
    x = to_float(few.x)
    with frozen(classifier, bn_branch) as model:
        attacked = pgd_images(model, few, s, context)
    change = (0.5 + AMPLIFICATION * (attacked - x)).clamp(0, 1)
    grid = torch.stack((x, attacked, change)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    pixels = (grid.cpu() * 255).round().to(torch.uint8).repeat_interleave(2, 0).repeat_interleave(2, 1)
    caption = (
        f"Test images; the same under PGD within {255 * s.eps:.0f}/255; the difference, {AMPLIFICATION} times as "
        "strong around grey."
    )
    context.picture("adversarial-examples", np.ascontiguousarray(pixels.numpy()), caption)


# The learning curve ---------------------------------------------------------------------------------------------------


class LearningCurve(nn.Module):
    """Clean and attacked accuracy of a ridge classifier on the encoder at some epochs of pre-training; resumable."""

    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(2, len(CURVE_SHARES), dtype=torch.float64))

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether a point of the curve falls on this epoch."""
        return bool(self._points(epoch, epochs))

    def add(self, epoch: int, epochs: int, clean: float, attacked: float) -> None:
        """Note the accuracies at an epoch where the curve is due."""
        points = self._points(epoch, epochs)
        self.values[0, points], self.values[1, points] = clean, attacked

    def series(self) -> dict[str, list[float]]:
        """For the record."""
        clean, attacked = self.values.tolist()
        return {"probe_accuracy_by_epoch": clean, "probe_pgd_accuracy_by_epoch": attacked}

    @staticmethod
    def _points(epoch: int, epochs: int) -> list[int]:
        return [point for point, share in enumerate(CURVE_SHARES) if max(1, round(epochs * share / 100)) == epoch]


def ridge_robustness(encoder: Encoder, task: Task, s: PretrainSettings) -> tuple[float, float]:
    """Accuracy in percent of a ridge classifier on features of the training images, clean and under PGD-10.

    On validation images if there are some, else on test images; nothing is selected by it.
    """
    bn_branch: Branch = "adv" if s.adversarial else "clean"
    held_out = (task.val if len(task.val) else task.test).first(CURVE_IMAGES)
    features = representations(encoder, task.train.x, bn_branch)
    mean, std = features.mean(0), features.std(0) + 1e-6
    rows = (features - mean) / std
    targets = F.one_hot(task.train.y, task.classes).to(rows) - 1 / task.classes
    penalty = RIDGE * len(rows) * torch.eye(rows.shape[1]).to(rows)
    weight = torch.linalg.solve(rows.T @ rows + penalty, rows.T @ targets)

    def model(x: Tensor) -> Tensor:
        return (encoder(x, bn_branch) - mean) / std @ weight

    x, y = to_float(held_out.x), held_out.y
    with folded_batchnorm(encoder, bn_branch):
        start = torch.zeros_like(x)
        attacked = pgd_examples(model, x, y, eps=s.eps, step=s.step_size, iterations=CURVE_STEPS, start=start)
        return accuracy(model, x, y), accuracy(model, attacked, y)


@torch.no_grad()
def representations(encoder: Encoder, x: Tensor, bn_branch: Branch) -> Tensor:
    """Features (N, d) of images uint8 (N, 3, H, W), not augmented, in eval mode."""
    with folded_batchnorm(encoder, bn_branch):
        return torch.cat([encoder(to_float(part), bn_branch) for part in x.split(CHUNK)])
