"""What a finished classifier can do: clean, attacked and corrupted test images, a picture, and a cheap probe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.dynacl.classify import CHUNK, representations
from methods.dynacl.corruptions import corrupted
from methods.dynacl.data import Part, Task
from methods.dynacl.models import Classifier, Encoder, fixed
from retable.data.augment import to_float
from retable.evaluate.attacks import Model, auto_attack, pgd_examples
from retable.train.context import Context

# AutoAttack's metric by its version: only the standard one may bear the name.
NAMES = {"standard": "autoattack_accuracy", "lite": "aa_lite_accuracy"}
# Shares of pre-training, in percent, at which the learning curve is measured.
PLACES = (20, 40, 60, 80, 100)
CURVE_IMAGES, CURVE_STEPS, RIDGE = 200, 10, 1e-2
PICTURED, AMPLIFICATION = 8, 8


def robustness(classifier: Classifier, route: str, task: Task, context: Context) -> dict[str, float]:
    """Accuracies in percent: all test images clean, some corrupted, some under PGD, some under AutoAttack."""
    s = context.cell.settings
    version = str(s["aa_version"])
    some, few = task.test.first(int(s["attacked_images"])), task.test.first(int(s["aa_images"]))
    with at_rest(classifier, route) as model:
        metrics = {"accuracy": accuracy(model, task.test, lambda x: x)}
        metrics["pgd_accuracy"] = accuracy(model, some, pgd_attack(model, some, context))
        x, eps, seed = to_float(few.x), float(s["eps"]), context.derive("autoattack")
        iterations = int(s["aa_iterations"])
        answers = auto_attack(model, x, few.y, eps=eps, seed=seed, version=version, iterations=iterations)[1]
        metrics[NAMES[version]] = 100 * float((answers == few.y).double().mean())
        right = torch.stack([model(images).argmax(1) == some.y for _, _, images in corrupted(to_float(some.x))])
        metrics["corruption_accuracy"] = 100 * float(right.double().mean())
    return metrics


@contextmanager
def at_rest(classifier: Classifier, route: str) -> Iterator[Model]:
    """`classifier` as a function of images alone, without gradients of its weights."""
    linear = classifier.linear
    weight, bias = linear.weight.detach(), linear.bias.detach()
    with fixed(classifier, route):
        yield lambda x: F.linear(classifier.encoder(x, route), weight, bias)


@torch.no_grad()
def accuracy(model: Model, part: Part, change: Callable[[Tensor], Tensor]) -> float:
    """Percent of images that `model` names rightly after `change`."""
    x = change(to_float(part.x))
    right = torch.cat([model(images) for images in x.split(CHUNK)]).argmax(1) == part.y
    return 100 * float(right.double().mean())


def pgd_attack(model: Model, part: Part, context: Context) -> Callable[[Tensor], Tensor]:
    """The evaluation's PGD on the images of `part`, from starts that only the run's seed decides."""
    s = context.cell.settings
    eps, step, iterations = float(s["eps"]), float(s["step_size"]), int(s["pgd_iters"])

    def attacked(x: Tensor, y: Tensor) -> Tensor:
        return pgd_examples(model, x, y, eps=eps, step=step, iterations=iterations)

    def change(x: Tensor) -> Tensor:
        context.seed_torch("evaluation attack")
        return torch.cat([attacked(*batch) for batch in zip(x.split(CHUNK), part.y.split(CHUNK), strict=True)])

    return change


def show(classifier: Classifier, route: str, task: Task, context: Context) -> None:
    """A picture: test images, their adversarial versions, and the difference."""
    few = task.test.first(PICTURED)
    with at_rest(classifier, route) as model:
        x = to_float(few.x)
        attacked = pgd_attack(model, few, context)(x)
    change = (0.5 + AMPLIFICATION * (attacked - x)).clamp(0, 1)
    grid = torch.stack((x, attacked, change)).permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    pixels = (grid.cpu() * 255).round().to(torch.uint8).repeat_interleave(2, 0).repeat_interleave(2, 1)
    eps = float(context.cell.settings["eps"])
    caption = (
        f"Test images; the same under PGD within {255 * eps:.0f}/255; the difference, {AMPLIFICATION} times as strong "
        "around grey."
    )
    context.picture("adversarial-examples", np.ascontiguousarray(pixels.numpy()), caption)


# The learning curve ---------------------------------------------------------------------------------------------------


class LearningCurve(nn.Module):
    """Clean and attacked accuracy of a ridge classifier on the encoder at some epochs of pre-training; resumable."""

    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(2, len(PLACES), dtype=torch.float64))

    def note(self, epoch: int, epochs: int, measured: Callable[[], tuple[float, float]]) -> None:
        """Measure if a place of the curve lies at this epoch."""
        here = [place for place, share in enumerate(PLACES) if max(1, round(epochs * share / 100)) == epoch]
        if here:
            clean, attacked = measured()
            self.values[0, here], self.values[1, here] = clean, attacked

    def series(self) -> dict[str, list[float]]:
        """For the record."""
        clean, attacked = self.values.tolist()
        return {"probe_accuracy_by_epoch": clean, "probe_pgd_accuracy_by_epoch": attacked}


def ridge_robustness(encoder: Encoder, route: str, task: Task, context: Context) -> tuple[float, float]:
    """Accuracy in percent of a ridge classifier on features of the training images, clean and under PGD-10.

    On validation images where there are some, else on test images; nothing is chosen by it.
    """
    s = context.cell.settings
    judged = (task.val if len(task.val) else task.test).first(CURVE_IMAGES)
    features = representations(encoder, task.train.x, route)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    rows = (features - mean) / deviation
    targets = F.one_hot(task.train.y, task.classes).to(rows) - 1 / task.classes
    penalty = RIDGE * len(rows) * torch.eye(rows.shape[1]).to(rows)
    weight = torch.linalg.solve(rows.T @ rows + penalty, rows.T @ targets)
    with fixed(encoder, route):

        def model(x: Tensor) -> Tensor:
            return (encoder(x, route) - mean) / deviation @ weight

        def change(x: Tensor) -> Tensor:
            start = torch.zeros_like(x)
            eps, step = float(s["eps"]), float(s["step_size"])
            return pgd_examples(model, x, judged.y, eps=eps, step=step, iterations=CURVE_STEPS, start=start)

        return accuracy(model, judged, lambda x: x), accuracy(model, judged, change)
