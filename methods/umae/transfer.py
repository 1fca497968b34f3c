"""Pre-training, then the authors' two evaluations with labels: a linear probe trained by LARS, or fine-tuning.

retable run umae/fine-tune --scale demo
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from methods.umae.models import MAE, SIZES, Classifier, ProbeHead
from methods.umae.pretrain import Pretrainer, make_model, objective
from methods.umae.task import FromFolder, InMemory, task_of
from retable.cards import CardError, unknown
from retable.plan import Cell
from retable.train.context import Context, Result, Stateful
from retable.train.optim import LARS
from retable.train.parallel import all_reduce_mean, ddp
from retable.train.precision import Stepper, autocast, compile_in_place
from retable.train.schedules import set_rate, warmup_cosine

PARALLEL = True


class LinearProbe:
    """BatchNorm and a linear layer on the frozen encoder's cls feature, trained by LARS without weight decay."""

    def __init__(self, task: InMemory | FromFolder, encoder: MAE, cell: Cell) -> None:
        self.encoder = encoder
        self.model: nn.Module = ProbeHead(encoder.norm.weight.numel(), task.classes).to(task.device)
        self.optimiser: torch.optim.Optimizer = LARS(self.model.parameters(), lr=0.0, form="mae")
        self.stepper = Stepper(self.optimiser, task.device, cell.settings["autocast"])
        # Statistics of BatchNorm are a process's own, as in the authors' code.
        self.shared = ddp(self.model, int(cell.settings["tune_batch_size"]))

    def start(self) -> None:
        """Called once, when the encoder is trained."""

    def logits(self, images: Tensor) -> Tensor:
        """(N, classes) of prepared images."""
        with torch.no_grad():
            features = self.encoder.eval().features(images)["cls"]
        return (self.shared if self.model.training else self.model)(features)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(self.logits(images).float(), labels)


class FineTuning:
    """All weights trained on, a lower rate for lower layers (BEiT's layer decay), Mixup or CutMix, smooth labels."""

    def __init__(self, task: InMemory | FromFolder, encoder: MAE, cell: Cell) -> None:
        s = self.settings = cell.settings
        self.encoder = encoder
        model = Classifier(
            SIZES[str(s["size"])],
            task.classes,
            image=task.side,
            channels=task.channels,
            drop_path=float(s["drop_path"]),
        )
        self.model: nn.Module = model.to(task.device)
        compile_in_place(self.model, s.get("compile", False))
        self.shared = ddp(self.model, int(s["tune_batch_size"]))
        groups = param_groups_layer_decay(
            self.model,
            weight_decay=float(s["weight_decay"]),
            layer_decay=float(s["layer_decay"]),
            no_weight_decay_list=("pos_embed", "cls_token"),
        )
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), fused=True)
        self.stepper = Stepper(self.optimiser, task.device, s["autocast"])
        mixing = (float(s["mixup"]), float(s["cutmix"]))
        smoothing = float(s["label_smoothing"])
        self.mix = Mixup(*mixing, label_smoothing=smoothing, num_classes=task.classes) if any(mixing) else None
        self.mixed_loss = SoftTargetCrossEntropy()

    def start(self) -> None:
        """Take over the encoder's weights."""
        if self.settings["trained"]:
            assert isinstance(self.model, Classifier)
            self.model.load_pretrained(self.encoder.state_dict())

    def logits(self, images: Tensor) -> Tensor:
        """(N, classes) of prepared images."""
        return (self.shared if self.model.training else self.model)(images)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy against mixed, smoothed labels; draws from numpy's global stream if it mixes."""
        if self.mix is not None:
            images, labels = self.mix(images, labels)
            return self.mixed_loss(self.logits(images).float(), labels)
        smoothing = float(self.settings["label_smoothing"])
        return F.cross_entropy(self.logits(images).float(), labels, label_smoothing=smoothing)


EVALUATIONS: dict[str, type[LinearProbe | FineTuning]] = {"linear-probe": LinearProbe, "fine-tune": FineTuning}


def build(cell: Cell, context: Context) -> tuple[InMemory | FromFolder, MAE, LinearProbe | FineTuning]:
    """Data, untrained network and its evaluation; weights depend on the seed only. ``CardError`` for unknown names."""
    s = cell.settings
    task = task_of(context.data(), s, context)
    context.seed_torch("weights")
    encoder = make_model(s, task.side, task.channels, task.classes)
    if not isinstance(encoder, MAE):
        raise CardError(f"linear-probe and fine-tune are for the model 'mae', got {s['model']!r}")
    if s["evaluation"] not in EVALUATIONS:
        raise CardError(unknown("evaluation", str(s["evaluation"]), list(EVALUATIONS)))
    return task, encoder, EVALUATIONS[str(s["evaluation"])](task, encoder.to(context.device), cell)


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network and its pre-training loss, or that of the evaluation if nothing is pre-trained."""
    task, encoder, evaluation = build(cell, context)
    images, labels = (part[: int(cell.settings["batch_size"])] for part in next(task.whole("train")))

    def loss() -> Tensor:
        context.seed_torch("fixed batch")
        if cell.settings["trained"]:
            return objective(encoder, images, labels, cell.settings)[0]
        return F.cross_entropy(evaluation.logits(images), labels)

    return (encoder if cell.settings["trained"] else evaluation.model), loss


def run(cell: Cell, context: Context) -> Result:
    """Pre-train, evaluate, measure one seed. Accuracies are in percent."""
    s = cell.settings

    # Data, models, optimisers
    task, encoder, evaluation = build(cell, context)
    pretrainer = Pretrainer(task, encoder, s)

    # Pre-training
    epochs = int(s["epochs"]) if s["trained"] else 0
    parts: dict[str, Stateful] = {"optimiser": pretrainer.optimiser, "stepper": pretrainer.stepper}
    for epoch in context.epochs(epochs, phase="pretrain", encoder=encoder, **parts):
        context.log(epoch, loss=pretrainer.epoch(epoch)["loss"])

    # Evaluation: a probe or the whole network, on labels
    evaluation.start()
    parts = {"optimiser": evaluation.optimiser, "stepper": evaluation.stepper}
    for epoch in context.epochs(int(s["tune_epochs"]), phase="tune", model=evaluation.model, **parts):
        np.random.seed(context.derive("mixup", epochs + epoch) % 2**32)  # noqa: NPY002 - timm's Mixup draws from there
        loss = tune(task, evaluation, cell, epochs + epoch, epoch)
        context.log(epoch, loss=loss, tuning_loss=loss)

    context.save_weights("encoder", encoder.state_dict())
    context.save_weights("tuned", evaluation.model.state_dict())
    return measure(task, evaluation)


def tune(
    task: InMemory | FromFolder, evaluation: LinearProbe | FineTuning, cell: Cell, epoch: int, number: int
) -> float:
    """Epoch `number`, from 1, of the evaluation's training, `epoch` of the run; returns the mean loss."""
    s, batch_size = cell.settings, int(cell.settings["tune_batch_size"])
    rate, steps = float(s["tune_blr"]) * batch_size / 256, task.steps(batch_size)
    total = torch.zeros((), device=task.device)
    evaluation.model.train()
    for step, (images, labels) in enumerate(task.batches(batch_size, epoch, float(s["tune_crop_low"]))):
        done = number - 1 + step / steps
        floor, warmup, epochs = float(s["tune_min_lr"]), float(s["tune_warmup"]), int(s["tune_epochs"])
        set_rate(evaluation.optimiser, warmup_cosine(done, rate, warmup, epochs, floor))
        with autocast(task.device, s["autocast"]):
            loss = evaluation.loss(images, labels)
        evaluation.stepper.step(loss)
        total += loss.detach()
    return (all_reduce_mean(total) / steps).item()


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    task, encoder, evaluation = build(cell, context)
    encoder.load_state_dict(context.load_weights("encoder"))
    evaluation.model.load_state_dict(context.load_weights("tuned"))
    return measure(task, evaluation)


@torch.no_grad()
def measure(task: InMemory | FromFolder, evaluation: LinearProbe | FineTuning) -> Result:
    """Test accuracy of the last epoch, on whole images."""
    evaluation.model.eval()
    right = sum(int((evaluation.logits(images).argmax(1) == labels).sum()) for images, labels in task.whole("test"))
    return Result({"test_accuracy": 100 * right / task.size("test")})
