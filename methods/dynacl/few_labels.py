"""Few labels: a teacher learns from the labelled images and labels the others; a student then learns under attack.

ACL's procedure (Jiang et al. 2020), with which the paper compares DYNACL++ at 1 % and 10 % of CIFAR-10's labels. The
teacher is the clean branch of the pre-trained encoder, fine-tuned on the labelled images; the student is its
adversarial branch, trained on true labels and the teacher's soft labels:

    retable run dynacl/few-labels --scale demo
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD

from retable.cards import CardError
from retable.data.augment import to_float
from retable.data.image_batches import shuffled_batches
from retable.evaluate.attacks import pgd_examples
from retable.experiment import Experiment
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result
from retable.train.schedules import set_lr

from .data import Part, Task, training_images
from .lp_aft import check_clusters, lp_aft
from .models import Branch, Classifier, Encoder, make_encoder
from .pretrain import make_pair, pretrain
from .robustness import accuracy, frozen, pgd_images, robustness, show
from .settings import FewLabelsSettings
from .trades import divergence
from .tuning import descend

# Shares of all epochs from which the learning rate is divided by ten, and weight decays (ACL's scripts).
TEACHER_DROPS, TEACHER_DECAY = (0.4, 0.6), 2e-4
STUDENT_DROPS, STUDENT_DECAY = (1 / 3, 2 / 3), 5e-4
# Without validation images, one training image in so many selects the epoch.
HELD_OUT = 10


# The loss and the data ------------------------------------------------------------------------------------------------


def few_labels_loss(
    clean: Tensor, attacked: Tensor, soft: Tensor, y: Tensor, *, labelled: int, beta: float
) -> dict[str, Tensor]:
    """The loss of a batch whose first `labelled` rows have true labels, and its parts by name.

    Logits (B, classes) on clean and on attacked images, the teacher's logits `soft`, labels y (labelled,). The targets
    of attacked logits are half the labels and half the teacher on labelled rows, and the teacher on the others, plus
    `beta` KL(clean || attacked); all are means over the B rows.
    """
    size = len(clean)
    supervised = 0.5 * F.cross_entropy(attacked[:labelled], y, reduction="sum")
    supervised = supervised + 0.5 * divergence(soft[:labelled], attacked[:labelled])
    distilled = divergence(soft[labelled:], attacked[labelled:])
    stability = beta * divergence(clean, attacked)
    parts = {"labelled": supervised / size, "unlabelled": distilled / size, "stability": stability / size}
    return {"loss": sum(parts.values(), clean.new_zeros(())), **parts}


def shared_batches(labelled: int, unlabelled: int, largest: int) -> int:
    """The smallest number of batches of at most `largest` images that divides both parts evenly.

    4,500 and 40,500 images in 250: 180 batches of 25 + 225; 450 and 44,550: 225 batches of 2 + 198, as the authors
    have them. If no number does, a few images are left out of an epoch.
    """
    least = -(-(labelled + unlabelled) // largest)
    even = (n for n in range(least, labelled + 1) if labelled % n == 0 and unlabelled % n == 0)
    return next(even, max(1, min(least, labelled)))


def share_of_labels(text: str) -> float:
    """0.1 of "10%". CardError for anything that is not a percentage above 0 and below 100."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not text.endswith("%") or not 0 < share < 1:
        raise CardError(f"labels is {text!r}; expected a share of the training images, above 0% and below 100%")
    return share


def divide(task: Task, share: float, seed: int) -> tuple[Part, Part, Part]:
    """Labelled, unlabelled and validation images, equally many labelled ones of each class (1 at least).

    Validation images are the task's, else a tenth of the training images. `seed` decides which images are labelled.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    classes = task.train.y.cpu()
    for label in range(task.classes):
        rows = (classes == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        held = 0 if len(task.val) else len(rows) // HELD_OUT
        known = max(1, round(share * (len(rows) - held)))
        for kind, part in zip(kinds, rows.split([known, len(rows) - known - held, held]), strict=True):
            kind.append(part)
    indices = [torch.cat(kind).to(task.train.x.device) for kind in kinds]
    labelled, unlabelled, held_out = (Part(task.train.x[rows], task.train.y[rows]) for rows in indices)
    return labelled, unlabelled, task.val if len(task.val) else held_out


def lr_at(epoch: int, epochs: int, lr: float, drops: tuple[float, float]) -> float:
    """The learning rate in an epoch (from 1): a tenth from each of `drops` on, which are shares of all epochs.

    ACL's scripts step the scheduler at the start of an epoch.
    """
    return lr * 0.1 ** sum(epoch >= max(2, round(drop * epochs)) for drop in drops)


# The experiment -------------------------------------------------------------------------------------------------------


class FewLabels(Experiment[FewLabelsSettings]):
    """Pre-training, with LP-AFT for DYNACL++, then a teacher on the labelled images, then a student on all."""

    model: Classifier
    """The student."""

    def __init__(self, settings: FewLabelsSettings, context: Context) -> None:
        super().__init__(settings, context)
        s = settings
        self.task = Task(*context.data(), context.device)
        if s.lp_aft:
            check_clusters(s.clusters, self.task.classes)
        share = share_of_labels(s.labels)
        self.labelled, self.unlabelled, self.val = divide(self.task, share, context.derive("labelled"))
        context.seed_torch("weights")
        self.pair = make_pair(s).to(context.device)
        self.teacher, self.model = self._classifier("clean"), self._classifier("adv")
        self.best = {"robust": BestCheckpoint(), "clean": BestCheckpoint()}
        self.series: dict[str, list[float]] = {}

    def _classifier(self, bn_branch: Branch) -> Classifier:
        return Classifier(make_encoder(self.settings.arch, bn_branch), self.task.classes).to(self.context.device)

    def train(self) -> None:
        s, context = self.settings, self.context
        self.series = pretrain(self.pair, self.task, s, context)
        encoder = self.pair.encoder
        if s.lp_aft:
            encoder = lp_aft(encoder, self.task, s, context)
        self.train_teacher(encoder)
        self.distil(encoder)

    def train_teacher(self, encoder: Encoder) -> None:
        """Fine-tune the clean branch on the labelled images; the epoch of the best validation accuracy is kept."""
        s, data, teacher, best = self.settings, self.labelled, self.teacher, BestCheckpoint()
        teacher.start_from(encoder)
        optimiser = SGD(teacher.parameters(), s.few_labels_lr, 0.9, weight_decay=TEACHER_DECAY)
        for epoch in self.context.epochs(
            s.teacher_epochs, phase="teacher", teacher=teacher, optimiser=optimiser, best=best
        ):
            set_lr(optimiser, lr_at(epoch, s.teacher_epochs, s.few_labels_lr, TEACHER_DROPS))
            teacher.train()
            losses = []
            for rows in shuffled_batches(len(data), s.teacher_batch, data.x.device, drop_last=False):
                logits = teacher(training_images(data.x[rows], s.crop_padding, flip=s.flip), "clean")
                losses.append(descend(optimiser, F.cross_entropy(logits, data.y[rows])))
            with frozen(teacher, "clean") as model:
                best.update(accuracy(model, to_float(self.val.x), self.val.y), epoch, teacher)
            self.context.log(epoch, loss=torch.stack(losses).mean().item())
        teacher.load_state_dict(best.weights)

    def distil(self, encoder: Encoder) -> None:
        """Train the adversarial branch on all images under attack; the best epochs, clean and attacked, are kept."""
        s, labelled, unlabelled, student = self.settings, self.labelled, self.unlabelled, self.model
        student.start_from(encoder)
        optimiser = SGD(student.parameters(), s.few_labels_lr, 0.9, weight_decay=STUDENT_DECAY)
        steps = shared_batches(len(labelled), len(unlabelled), s.student_batch)
        with_labels, without = len(labelled) // steps, len(unlabelled) // steps
        for epoch in self.context.epochs(
            s.student_epochs, phase="distillation", student=student, optimiser=optimiser, **self.best
        ):
            set_lr(optimiser, lr_at(epoch, s.student_epochs, s.few_labels_lr, STUDENT_DROPS))
            order, other_order = (torch.randperm(len(part)).to(part.x.device) for part in (labelled, unlabelled))
            losses = []
            for step in range(steps):
                rows = order[step * with_labels : (step + 1) * with_labels]
                others = other_order[step * without : (step + 1) * without]
                images, y = torch.cat([labelled.x[rows], unlabelled.x[others]]), labelled.y[rows]
                x = training_images(images, s.crop_padding, flip=s.flip)
                attacked, soft = self.attack(x, y)
                losses.append(descend(optimiser, self.loss(x, attacked, soft, y)["loss"]))
            with frozen(student, "adv") as model:
                clean = accuracy(model, to_float(self.val.x), self.val.y)
                robust = accuracy(model, pgd_images(model, self.val, s, self.context), self.val.y)
            self.best["clean"].update(clean, epoch, student)
            self.best["robust"].update(robust, epoch, student)
            self.context.log(epoch, loss=torch.stack(losses).mean().item())

    def attack(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Attacked images (B, 3, H, W) and the teacher's logits; targets are y (first rows), then the teacher's."""
        s = self.settings
        with torch.no_grad(), frozen(self.teacher, "clean") as teacher:
            soft = teacher(x)
        targets = torch.cat([y, soft[len(y) :].argmax(1)])
        with frozen(self.model, "adv") as student:
            attacked = pgd_examples(student, x, targets, eps=s.eps, step=s.step_size, iterations=s.student_iters)
        return attacked, soft

    def loss(self, x: Tensor, attacked: Tensor, soft: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The student's loss and its parts; the clean pass comes first."""
        student = self.model.train()
        clean = student(x, "adv")
        return few_labels_loss(clean, student(attacked, "adv"), soft, y, labelled=len(y), beta=self.settings.beta)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {name: best.weights for name, best in self.best.items()}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        for name, best in self.best.items():
            best.weights = weights[name]

    def measure(self) -> Result:
        """Metrics of the epoch with the best robust validation accuracy; `best_clean_` ones of the best clean one."""
        metrics: dict[str, float] = {}
        for name, prefix in (("clean", "best_clean_"), ("robust", "")):
            self.model.load_state_dict(self.best[name].weights)
            values = robustness(self.model, "adv", self.task, self.settings, self.context)
            metrics |= {f"{prefix}{metric}": value for metric, value in values.items()}
        show(self.model, "adv", self.task, self.settings, self.context)
        return Result(metrics, self.series)

    def fixed_batch(self) -> Callable[[], Tensor]:
        """Images and attacks are drawn once."""
        first, rest, s = self.labelled.first(16), self.unlabelled.first(48), self.settings
        x = training_images(torch.cat([first.x, rest.x]), s.crop_padding, flip=s.flip)
        attacked, soft = self.attack(x, first.y)
        return lambda: self.loss(x, attacked, soft, first.y)["loss"]


EXPERIMENT = FewLabels
