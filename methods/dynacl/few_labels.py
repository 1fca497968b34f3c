"""Few labels: what is known of a small part names the rest, and both are then learned under attack.

ACL's procedure (Jiang et al. 2020), with which the paper compares DYNACL++ at 1 % and 10 % of CIFAR-10's labels. The
pre-trained encoder's clean route is fine-tuned on the labelled part and names the others softly; the attacked route
then learns from true and given names:

    retable run dynacl/few-labels --scale demo
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.dynacl.data import Part, Task, batches, training_images
from methods.dynacl.measure import accuracy, at_rest, pgd_attack, robustness, show
from methods.dynacl.models import Classifier, fixed, make_encoder, single_route
from methods.dynacl.run import Phase, Story, train
from methods.dynacl.trades import divergence
from retable.cards import CardError, Scalar
from retable.evaluate.attacks import pgd_examples
from retable.plan import Cell
from retable.train.best import BestCheckpoint
from retable.train.context import Context, Result, Stateful
from retable.train.schedules import set_rate

# The teacher, on few images: the rate falls tenfold twice. ACL's scripts move the rate at the start of an epoch.
TEACHER_DROPS, TEACHER_DECAY = (0.4, 0.6), 2e-4
STUDENT_DROPS, STUDENT_DECAY = (1 / 3, 2 / 3), 5e-4
# A set without validation images gives one image in so many for choosing the epoch.
HELD_OUT = 10


# What is learned ------------------------------------------------------------------------------------------------------


def few_labels_loss(
    clean: Tensor, attacked: Tensor, soft: Tensor, y: Tensor, *, labelled: int, beta: float
) -> dict[str, Tensor]:
    """The loss of a batch whose first `labelled` rows have true labels, and its parts by name.

    Logits (B, classes) on clean and on attacked images, the teacher's logits `soft`, labels y (labelled,). Attacked
    logits are held to half the labels and half the teacher on labelled rows, to the teacher alone on the others, and
    to the clean logits by `beta` KL(clean || attacked), all as means over the B rows.
    """
    size = len(clean)
    names = 0.5 * F.cross_entropy(attacked[:labelled], y, reduction="sum")
    names = names + 0.5 * divergence(soft[:labelled], attacked[:labelled])
    given = divergence(soft[labelled:], attacked[labelled:])
    stable = beta * divergence(clean, attacked)
    parts = {"labelled": names / size, "unlabelled": given / size, "stability": stable / size}
    return {"loss": sum(parts.values(), clean.new_zeros(())), **parts}


def shared_batches(labelled: int, unlabelled: int, largest: int) -> int:
    """The number of batches of at most `largest` images into which both parts can be dealt evenly, the smallest such.

    4,500 and 40,500 images in 250: 180 batches of 25 + 225; 450 and 44,550: 225 batches of 2 + 198, as the authors
    have them. Where nothing fits, a few images are left out of an epoch.
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

    Validation images are the task's, else a tenth of the training images. What is labelled, `seed` decides.
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
    places = [torch.cat(kind).to(task.train.x.device) for kind in kinds]
    labelled, unlabelled, held_out = (Part(task.train.x[rows], task.train.y[rows]) for rows in places)
    return labelled, unlabelled, task.val if len(task.val) else held_out


class FewLabels:
    """Pre-training, then a teacher on the labelled part, then a student on both; networks of one route each."""

    def __init__(self, task: Task, settings: dict[str, Scalar], context: Context) -> None:
        s = self.settings = settings
        self.task, self.context = task, context
        self.story = Story(task, {**settings, "evaluations": "slf"}, context)
        share = share_of_labels(str(s["labels"]))
        self.labelled, self.unlabelled, self.val = divide(task, share, context.derive("labelled"))
        self.teacher, self.student = self._classifier("normal"), self._classifier("pgd")
        self.optimisers = [
            torch.optim.SGD(network.parameters(), 0.0, 0.9, weight_decay=decay)
            for network, decay in ((self.teacher, TEACHER_DECAY), (self.student, STUDENT_DECAY))
        ]
        self.best = {"teacher": BestCheckpoint(), "clean": BestCheckpoint(), "robust": BestCheckpoint()}

    def _classifier(self, route: str) -> Classifier:
        encoder = make_encoder(str(self.settings["arch"]), (route,))
        return Classifier(encoder, self.task.classes).to(self.task.train.x.device)

    def parts(self) -> dict[str, Stateful]:
        """What a saved state holds."""
        networks = {"teacher": self.teacher, "student": self.student}
        optimisers = {f"optimiser few labels {number}": o for number, o in enumerate(self.optimisers)}
        return {**self.story.parts(), **networks, **optimisers, **{f"best {k}": v for k, v in self.best.items()}}

    def phases(self) -> list[Phase]:
        """Pre-training with LP-AFT where asked for, then teacher and student."""
        s, before = self.settings, self.story.phases()[: -len(self.story.trainings)]
        teacher = Phase(int(s["teacher_epochs"]), lambda: self._start(self.teacher, "normal"), self._teacher_epoch)
        return [*before, teacher, Phase(int(s["student_epochs"]), self._start_student, self._student_epoch)]

    def _start(self, classifier: Classifier, route: str) -> None:
        story = self.story
        encoder = story.pretraining.pair.result if story.tuned is None else story.tuned.encoder
        classifier.encoder.load_state_dict(single_route(encoder, route).state_dict())
        classifier.zero()

    def _start_student(self) -> None:
        self.teacher.load_state_dict(self.best["teacher"].weights)
        self._start(self.student, "pgd")

    def _teacher_epoch(self, epoch: int) -> float:
        """One pass over the labelled images, clean; the epoch counts if it names validation images best."""
        s, data = self.settings, self.labelled
        self.teacher.train()
        set_rates(self.optimisers[0], epoch, int(s["teacher_epochs"]), float(s["few_labels_lr"]), TEACHER_DROPS)
        losses = []
        for rows in batches(len(data), int(s["teacher_batch"]), data.x.device, drop_last=False):
            logits = self.teacher(training_images(data.x[rows], s), "normal")
            losses.append(self._update(0, F.cross_entropy(logits, data.y[rows])))
        with at_rest(self.teacher, "normal") as model:
            self.best["teacher"].update(accuracy(model, self.val, lambda x: x), epoch, self.teacher)
        return float(torch.stack(losses).mean())

    def _student_epoch(self, epoch: int) -> float:
        """One pass over all images; the epoch counts if validation images are named best, clean or attacked."""
        s, labelled, unlabelled = self.settings, self.labelled, self.unlabelled
        set_rates(self.optimisers[1], epoch, int(s["student_epochs"]), float(s["few_labels_lr"]), STUDENT_DROPS)
        number = shared_batches(len(labelled), len(unlabelled), int(s["student_batch"]))
        known, others = (torch.randperm(len(part)).to(part.x.device) for part in (labelled, unlabelled))
        losses = []
        for turn in range(number):
            first, rest = (order[turn * (size := len(order) // number) :][:size] for order in (known, others))
            x = training_images(torch.cat([labelled.x[first], unlabelled.x[rest]]), s)
            attacked, soft = self.attack(x, labelled.y[first])
            losses.append(self._update(1, self.loss(x, attacked, soft, labelled.y[first])["loss"]))
        with at_rest(self.student, "pgd") as model:
            clean = accuracy(model, self.val, lambda x: x)
            robust = accuracy(model, self.val, pgd_attack(model, self.val, self.context))
        self.best["clean"].update(clean, epoch, self.student)
        self.best["robust"].update(robust, epoch, self.student)
        return float(torch.stack(losses).mean())

    def attack(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Attacked images (B, 3, H, W) and the teacher's logits; labels y of the first rows, then the teacher's."""
        s = self.settings
        with torch.no_grad(), fixed(self.teacher, "normal"):
            soft = self.teacher(x, "normal")
        names = torch.cat([y, soft[len(y) :].argmax(1)])
        with fixed(self.student, "pgd"):
            attacked = pgd_examples(
                lambda images: self.student(images, "pgd"),
                x,
                names,
                eps=float(s["eps"]),
                step=float(s["step_size"]),
                iterations=int(s["student_iters"]),
            )
        return attacked, soft

    def loss(self, x: Tensor, attacked: Tensor, soft: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The student's loss and its parts; the clean pass comes first."""
        self.student.train()
        clean = self.student(x, "pgd")
        beta = float(self.settings["beta"])
        return few_labels_loss(clean, self.student(attacked, "pgd"), soft, y, labelled=len(y), beta=beta)

    def _update(self, number: int, loss: Tensor) -> Tensor:
        self.optimisers[number].zero_grad()
        loss.backward()
        self.optimisers[number].step()
        return loss.detach()


def set_rates(optimiser: torch.optim.Optimizer, epoch: int, epochs: int, lr: float, drops: tuple[float, float]) -> None:
    """The rate in an epoch (from 1): a tenth from each of `drops` on, which are shares of all epochs."""
    set_rate(optimiser, lr * 0.1 ** sum(epoch >= max(2, round(drop * epochs)) for drop in drops))


# Training -------------------------------------------------------------------------------------------------------------


def build(cell: Cell, context: Context) -> FewLabels:
    """Data and untrained networks of a cell; the weights depend on the seed only."""
    task = Task(*context.data(), context.device)
    context.seed_torch("weights")
    return FewLabels(task, cell.settings, context)


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and measure it. Metrics are accuracies in percent."""
    few = build(cell, context)
    train(few.phases(), few.parts(), context)
    for name in ("robust", "clean"):
        context.save_weights(name, few.best[name].weights)
    few.student.load_state_dict(few.best["robust"].weights)
    show(few.student, "pgd", few.task, context)
    return Result(measure(few, context), few.story.curve.series())


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    return Result(measure(build(cell, context), context))


def measure(few: FewLabels, context: Context) -> dict[str, float]:
    """Metrics of the epoch that was most robust on validation images, and behind `best_clean_` of the most accurate."""
    metrics: dict[str, float] = {}
    for name, prefix in (("robust", ""), ("clean", "best_clean_")):
        few.student.load_state_dict(context.load_weights(name))
        values = robustness(few.student, "pgd", few.task, context)
        metrics |= {f"{prefix}{metric}": value for metric, value in values.items()}
    return metrics


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The student and its loss on one batch, images and attacks drawn once."""
    few = build(cell, context)
    context.seed_torch("fixed batch")
    first, rest = few.labelled.first(16), few.unlabelled.first(48)
    x = training_images(torch.cat([first.x, rest.x]), cell.settings)
    attacked, soft = few.attack(x, first.y)
    return few.student, lambda: few.loss(x, attacked, soft, first.y)["loss"]
