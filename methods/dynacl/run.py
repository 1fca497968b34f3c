"""DYNACL: an encoder is trained without labels to be robust, then classifiers on it are evaluated under attack.

CIFAR-10, ResNet-18: the paper reports 45 % AutoAttack accuracy under linear evaluation at eps 8/255 (46 % with LP-AFT)
after 1000 epochs, which take 29 hours on an RTX 3090. The demo takes seconds:

    retable run dynacl --scale demo
"""

from collections.abc import Callable

import torch
from torch import Tensor

from retable.experiment import Experiment
from retable.train.context import Context, Result

from .data import Task, training_images, views
from .lp_aft import check_clusters, lp_aft
from .models import Branch, Classifier, make_encoder
from .pretrain import attack, contrastive_loss, make_pair, pretrain, schedule
from .robustness import counted, representations, robustness, show
from .schedules import Augmentation
from .settings import PretrainSettings
from .trades import trades_loss
from .tuning import Stage, attack_trades, finetune_trades, train_linear, train_linear_attacked

DECAY = 2e-4  # weight decay of all evaluations


def majority(settings: PretrainSettings, context: Context) -> Result:
    """Always the most frequent training class: no attack changes that prediction."""
    task = Task(*context.data(), torch.device("cpu"))
    prediction = torch.bincount(task.train.y).argmax()
    images = {"accuracy": len(task.test), "pgd_accuracy": settings.attacked_images}
    metrics: dict[str, float] = {}
    for name, number in images.items():
        y = task.test.first(number).y
        metrics |= counted(name, prediction.expand(len(y)), y)
    return Result(metrics)


class Dynacl(Experiment[PretrainSettings]):
    """Pre-training, with LP-AFT for DYNACL++, then the evaluations SLF, ALF and AFF; or supervised TRADES."""

    controls = {"majority": majority}

    def __init__(self, settings: PretrainSettings, context: Context) -> None:
        super().__init__(settings, context)
        s = settings
        self.task = Task(*context.data(), context.device)
        if s.lp_aft:
            check_clusters(s.clusters, self.task.classes)
        self.bn_branch: Branch = "adv" if s.adversarial else "clean"
        context.seed_torch("weights")
        self.pair = make_pair(s).to(context.device)
        names = ["supervised"] if s.method == "supervised" else s.evaluations.split("+")
        self.classifiers = {name: self._classifier(name) for name in names}
        self.model = self.classifiers["supervised"] if s.method == "supervised" else self.pair
        self.series: dict[str, list[float]] = {}

    def _classifier(self, name: str) -> Classifier:
        encoder = (
            make_encoder(self.settings.arch) if name == "aff" else make_encoder(self.settings.arch, self.bn_branch)
        )
        return Classifier(encoder, self.task.classes).to(self.context.device)

    def train(self) -> None:
        s, task, context = self.settings, self.task, self.context
        branch = self.bn_branch
        if s.method == "supervised":
            stage = Stage("supervised", s.supervised_epochs, s.aft_lr, DECAY, s.tune_batch, drop_last=True)
            finetune_trades(self.classifiers["supervised"], task.train, branch, branch, stage, s, context)
            return
        if s.method == "contrastive":
            self.series = pretrain(self.pair, task, s, context)
        encoder = self.pair.encoder
        if s.lp_aft:
            encoder = lp_aft(encoder, task, s, context)
        for name, classifier in self.classifiers.items():
            classifier.start_from(encoder)
            match name:
                case "slf" | "alf":
                    # Nesterov's momentum is that of the authors' LP-AFT script; the one for evaluation alone has none.
                    stage = Stage(name, s.probe_epochs, s.probe_lr, DECAY, s.probe_batch, nesterov=s.lp_aft)
                    fit = train_linear if name == "slf" else train_linear_attacked
                    fit(classifier, task.train, branch, stage, s, context)
                case "aff":
                    stage = Stage("aff", s.aff_epochs, s.aff_lr, DECAY, s.aff_batch, lr_drops=(0.6, 0.8))
                    finetune_trades(classifier, task.train, "clean", branch, stage, s, context)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {name: classifier.state_dict() for name, classifier in self.classifiers.items()}

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        for name, classifier in self.classifiers.items():
            classifier.load_state_dict(weights[name])

    def measure(self) -> Result:
        """Accuracies in percent: the first classifier's under their plain names, others' with its name in front."""
        metrics: dict[str, float] = {}
        for name, classifier in self.classifiers.items():
            values = robustness(classifier, self.bn_branch, self.task, self.settings, self.context)
            metrics |= {f"{name}_{metric}": value for metric, value in values.items()} if metrics else values
        show(next(iter(self.classifiers.values())), self.bn_branch, self.task, self.settings, self.context)
        return Result(metrics, self.series)

    def representations(self, places: Tensor) -> Tensor:
        """The first classifier's encoder on clean images, in the branch that is evaluated."""
        images = torch.from_numpy(self.context.data()[0].images)[places.cpu()].to(self.context.device)
        return representations(next(iter(self.classifiers.values())).encoder, images, self.bn_branch)

    def fixed_batch(self) -> Callable[[], Tensor]:
        """Views and adversarial images are drawn once."""
        s, pair, branch = self.settings, self.pair, self.bn_branch
        if s.method == "supervised":
            classifier, batch = self.classifiers["supervised"], self.task.train.first(s.batch_size)
            x = training_images(batch.x, s.crop_padding, flip=s.flip)
            attacked = attack_trades(classifier, x, branch, branch, s)
            return lambda: trades_loss(classifier(x, branch), classifier(attacked, branch), batch.y, s.beta)
        strength, weight = schedule(1, s)
        unlabelled = self.task.unlabelled.first(s.batch_size).x
        clean = views(unlabelled, Augmentation.of_strength(strength), s.interpolation, flip=s.flip)
        adversarial = attack(pair, clean, s) if s.adversarial else None
        return lambda: contrastive_loss(pair, clean, adversarial, weight, s.temperature)


EXPERIMENT = Dynacl
