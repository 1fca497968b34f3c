"""Adversarial contrastive pre-training: DYNACL, and with other settings ACL and SimCLR."""

import torch
from torch import Tensor

from methods.dynacl.attack import adversarial_views, contrast
from methods.dynacl.data import Task, batches, views
from methods.dynacl.losses import schedule_weighted
from methods.dynacl.models import Pair, Projector, make_encoder
from methods.dynacl.schedules import Augmentation, adversarial_weight, augmentation_strength
from retable.cards import CardError, Scalar, unknown
from retable.train.optim import LARS
from retable.train.schedules import set_rate, warmup_cosine_epoch

# The lowest rate of the cosine (authors' code).
FLOOR = 1e-6


class Pretraining:
    """A pair of networks, its optimiser and the two schedules over `epochs` epochs."""

    def __init__(self, task: Task, settings: dict[str, Scalar]) -> None:
        self.task, self.settings = task, settings
        self.epochs = int(settings["epochs"])
        # K; the paper's 1000 epochs have 20 plateaus of 50.
        self.period = max(1, round(self.epochs / int(settings["plateaus"])))
        projector = Projector(make_encoder(str(settings["arch"])), int(settings["head_layers"]))
        momentum = float(settings["momentum"]) if settings["momentum_encoder"] else None
        self.pair = Pair(projector, momentum).to(task.train.x.device)
        self.optimiser = make_optimiser(self.pair.q, settings)

    def schedule(self, epoch: int) -> tuple[float, float]:
        """Strength and weight of the adversarial half in an epoch (from 1)."""
        s = self.settings
        swap, rule = float(s["swap"]), str(s["weight_rule"])
        strength = float(s["strength"]) * augmentation_strength(epoch, self.epochs, self.period)
        return strength, adversarial_weight(epoch, self.epochs, self.period, swap, rule)

    def epoch(self, epoch: int) -> float:
        """One pass over the training images; the mean loss of a step."""
        s, train = self.settings, self.task.unlabelled
        strength, weight = self.schedule(epoch)
        augmentation = Augmentation.of_strength(strength)
        set_rate(self.optimiser, warmup_cosine_epoch(epoch, float(s["lr"]), int(s["warmup"]), self.epochs, FLOOR))
        self.pair.train()
        losses = []
        for rows in batches(len(train), int(s["batch_size"]), train.x.device, drop_last=False):
            losses.append(self.step(views(train.x[rows], augmentation, s), weight))
        return float(torch.stack(losses).mean())

    def step(self, clean: Tensor, weight: float) -> Tensor:
        """One optimisation step on views (2N, 3, H, W); returns the loss."""
        attacked = self.attack(clean) if self.settings["adversarial"] else None
        loss = self.loss(clean, attacked, weight)
        self.pair.update()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def attack(self, clean: Tensor) -> Tensor:
        """The adversarial versions of views."""
        s = self.settings
        eps, step = float(s["eps"]), float(s["step_size"])
        t, iterations = float(s["temperature"]), int(s["attack_iters"])
        return adversarial_views(self.pair, clean, t, eps=eps, step=step, iterations=iterations)

    def loss(self, clean: Tensor, attacked: Tensor | None, weight: float) -> Tensor:
        """The weighted loss of views and their adversarial versions; of the views alone without those."""
        t = float(self.settings["temperature"])
        if attacked is None:
            return contrast(self.pair, clean, "normal", t)
        # The adversarial pass comes first, as in the authors' code.
        adversarial = contrast(self.pair, attacked, "pgd", t)
        return schedule_weighted(contrast(self.pair, clean, "normal", t), adversarial, weight)


def make_optimiser(network: torch.nn.Module, settings: dict[str, Scalar]) -> torch.optim.Optimizer:
    """LARS on all tensors, or SGD. Raises CardError for another name."""
    lr, decay = float(settings["lr"]), float(settings["weight_decay"])
    if settings["optimiser"] == "lars":
        return LARS(network.parameters(), lr, form="acl", weight_decay=decay)
    if settings["optimiser"] == "sgd":
        return torch.optim.SGD(network.parameters(), lr, momentum=0.9, weight_decay=decay)
    raise CardError(unknown("optimiser", str(settings["optimiser"]), ["lars", "sgd"]))
