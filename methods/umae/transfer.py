"""Pre-training, then the authors' two evaluations with labels: a linear probe trained by LARS, or fine-tuning.

retable run umae/transfer --scale demo
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import param_groups_layer_decay
from torch import Tensor

from retable.data.folder_images import FolderSet
from retable.data.image_batches import ImageBatches
from retable.experiment import Experiment
from retable.train.context import Context, Result
from retable.train.optim import LARS
from retable.train.parallel import all_reduce_mean, ddp
from retable.train.precision import Stepper, autocast, compile_in_place
from retable.train.schedules import set_lr, warmup_cosine

from .classifiers import Classifier, ProbeHead
from .mae import MAE
from .pretrain import Objective, make_model, pretrain
from .settings import TransferSettings
from .task import counted_accuracy, from_folder, in_memory
from .vit import SIZES


class LinearProbe:
    """BatchNorm and a linear layer on the frozen encoder's cls feature, trained by LARS without weight decay."""

    def __init__(self, task: ImageBatches, encoder: MAE, settings: TransferSettings) -> None:
        self.encoder = encoder
        self.model = ProbeHead(encoder.width, task.classes).to(task.device)
        # Each process has batch statistics of its own, as in the authors' code.
        self.network = ddp(self.model, settings.tune_batch_size)
        self.optimiser: torch.optim.Optimizer = LARS(self.model.parameters(), lr=0.0, form="mae")

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, S, S)."""
        with torch.no_grad():
            features = self.encoder.eval().features(images)["cls"]
        return self.network(features)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(self.logits(images).float(), labels)


class FineTuning:
    """All weights trained by AdamW with layer-wise learning rate decay (BEiT), Mixup, CutMix and label smoothing."""

    def __init__(self, task: ImageBatches, settings: TransferSettings) -> None:
        s = settings
        self.model = Classifier(
            SIZES[s.size], task.classes, image=task.side, channels=task.channels, drop_path=s.drop_path
        ).to(task.device)
        compile_in_place(self.model, s.compile)
        self.network = ddp(self.model, s.tune_batch_size)
        undecayed = ("pos_embed", "cls_token")
        groups = param_groups_layer_decay(self.model, s.weight_decay, undecayed, layer_decay=s.layer_decay)
        self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), fused=True)
        self.label_smoothing = s.label_smoothing
        self.mixup = None
        if s.mixup or s.cutmix:
            self.mixup = Mixup(s.mixup, s.cutmix, label_smoothing=s.label_smoothing, num_classes=task.classes)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, S, S)."""
        return self.network(images)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy with mixed and smoothed labels; Mixup draws from numpy's global generator."""
        if self.mixup is not None:
            images, labels = self.mixup(images, labels)
            return SoftTargetCrossEntropy()(self.logits(images).float(), labels)
        return F.cross_entropy(self.logits(images).float(), labels, label_smoothing=self.label_smoothing)


class Transfer(Experiment[TransferSettings]):
    """Pre-train, then train a linear probe or the whole network with labels."""

    parallel = True

    def __init__(self, settings: TransferSettings, context: Context) -> None:
        super().__init__(settings, context)
        images, split = context.data()
        load = from_folder if isinstance(images, FolderSet) else in_memory
        self.task: ImageBatches = load(images, split, settings, context.device)
        context.seed_torch("weights")
        encoder = make_model(settings, self.task.side, self.task.channels, self.task.classes)
        assert isinstance(encoder, MAE)  # as the setting's type says
        self.encoder = encoder.to(context.device)
        self.evaluation: LinearProbe | FineTuning
        if settings.evaluation == "linear-probe":
            self.evaluation = LinearProbe(self.task, self.encoder, settings)
        else:
            self.evaluation = FineTuning(self.task, settings)
        self.model = self.encoder if settings.trained else self.evaluation.model

    def train(self) -> None:
        s, evaluation = self.settings, self.evaluation
        for epoch, losses in pretrain(self.task, self.encoder, s, self.context, phase="pretrain"):
            self.context.log(epoch, loss=losses["loss"])

        if isinstance(evaluation, FineTuning) and s.trained:
            evaluation.model.load_pretrained(self.encoder.state_dict())
        model, optimiser = evaluation.model, evaluation.optimiser
        stepper = Stepper(optimiser, self.context.device, s.autocast)
        lr, steps = s.tune_blr * s.tune_batch_size / 256, self.task.steps(s.tune_batch_size)
        for epoch in self.context.epochs(
            s.tune_epochs, phase="tune", model=model, optimiser=optimiser, stepper=stepper
        ):
            # timm's Mixup draws from numpy's global generator.
            np.random.seed(self.context.derive("mixup", epoch) % 2**32)  # noqa: NPY002
            model.train()
            total = torch.zeros((), device=self.context.device)
            for step, (images, labels) in enumerate(self.task.training(s.tune_batch_size, s.tune_crop_low)):
                done = epoch - 1 + step / steps
                set_lr(optimiser, warmup_cosine(done, lr, s.tune_warmup, s.tune_epochs, s.tune_min_lr))
                with autocast(self.context.device, s.autocast):
                    loss = evaluation.loss(images, labels)
                stepper.step(loss)
                total += loss.detach()
            mean = (all_reduce_mean(total) / steps).item()
            self.context.log(epoch, loss=mean, tuning_loss=mean)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {"encoder": self.encoder.state_dict(), "tuned": self.evaluation.model.state_dict()}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        self.encoder.load_state_dict(weights["encoder"])
        self.evaluation.model.load_state_dict(weights["tuned"])

    def measure(self) -> Result:
        """Test accuracy in percent."""
        self.evaluation.model.eval()
        return Result(counted_accuracy(self.task, "test", self.evaluation.logits, "test_accuracy"))

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The pre-training loss, or that of the evaluation if nothing is pre-trained."""
        images, labels = (part[: self.settings.batch_size] for part in next(self.task.part("train")))
        objective = Objective(self.encoder, self.settings)

        def loss() -> Tensor:
            if self.settings.trained:
                return objective(images, labels, self.encoder.draw(len(images), images.device))[0]
            return F.cross_entropy(self.evaluation.logits(images), labels)

        return loss


EXPERIMENT = Transfer
