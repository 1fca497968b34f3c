"""Training of classifiers: linear on clean images (LP, SLF), linear under attack (ALF), and by TRADES (AFT, AFF).

All use SGD with momentum 0.9, and a learning rate that is divided by ten at some epochs.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from retable.data.image_batches import shuffled_batches
from retable.evaluate.attacks import pgd_examples
from retable.train.context import Context
from retable.train.schedules import set_lr

from .data import Part, training_images
from .models import Branch, Classifier, Encoder, folded_batchnorm
from .robustness import CHUNK, frozen
from .settings import PretrainSettings
from .trades import trades_examples, trades_loss


@dataclass(frozen=True)
class Stage:
    """The phase's name and the hyper-parameters of its SGD; the authors' values are in the card."""

    name: str
    epochs: int
    lr: float
    weight_decay: float
    batch_size: int
    lr_drops: tuple[float, ...] = (0.4, 0.8)
    """Shares of all epochs after which the learning rate is divided by ten."""
    nesterov: bool = False
    drop_last: bool = False
    """Leave out an epoch's last, smaller batch. The authors' LP-AFT does, their evaluations do not."""

    def optimiser(self, module: nn.Module) -> SGD:
        """SGD on all parameters of `module`."""
        return SGD(module.parameters(), self.lr, 0.9, weight_decay=self.weight_decay, nesterov=self.nesterov)

    def lr_at(self, epoch: int) -> float:
        """The learning rate in an epoch (from 1)."""
        return self.lr * 0.1 ** sum(epoch > round(drop * self.epochs) for drop in self.lr_drops)


def train_linear(
    classifier: Classifier, data: Part, bn_branch: Branch, stage: Stage, s: PretrainSettings, context: Context
) -> None:
    """Train the linear layer on clean images, the encoder frozen.

    The features of one augmentation of all images are computed at once; `probe_views` augmentations take turns.
    """
    seed = context.derive("augmentations", stage.name) >> 1  # halved: the number of the augmentation is added
    optimiser = stage.optimiser(classifier.linear)
    features: dict[int, Tensor] = {}
    for epoch in context.epochs(stage.epochs, phase=stage.name, classifier=classifier, optimiser=optimiser):
        set_lr(optimiser, stage.lr_at(epoch))
        view = (epoch - 1) % s.probe_views
        if view not in features:
            if s.probe_views >= stage.epochs:
                features.clear()  # no augmentation is used again
            features[view] = augmented_features(classifier.encoder, data.x, bn_branch, seed + view, s)
        losses = []
        for rows in shuffled_batches(len(data), stage.batch_size, data.x.device, drop_last=stage.drop_last):
            loss = F.cross_entropy(classifier.linear(features[view][rows]), data.y[rows])
            losses.append(descend(optimiser, loss))
        context.log(epoch, loss=torch.stack(losses).mean().item())


@torch.no_grad()
def augmented_features(encoder: Encoder, x: Tensor, bn_branch: Branch, seed: int, s: PretrainSettings) -> Tensor:
    """Features (N, d) of one augmentation of images uint8 (N, 3, H, W), which `seed` alone decides."""
    with torch.random.fork_rng([x.device] if x.is_cuda else []), folded_batchnorm(encoder, bn_branch):
        torch.manual_seed(seed)
        return torch.cat(
            [encoder(training_images(part, s.crop_padding, flip=s.flip), bn_branch) for part in x.split(CHUNK)]
        )


def train_linear_attacked(
    classifier: Classifier, data: Part, bn_branch: Branch, stage: Stage, s: PretrainSettings, context: Context
) -> None:
    """Train the linear layer on images attacked by PGD on the cross-entropy, the encoder frozen."""
    iterations = alf_iterations(s)
    optimiser = stage.optimiser(classifier.linear)
    for epoch in context.epochs(stage.epochs, phase=stage.name, classifier=classifier, optimiser=optimiser):
        set_lr(optimiser, stage.lr_at(epoch))
        losses = []
        for rows in shuffled_batches(len(data), stage.batch_size, data.x.device, drop_last=stage.drop_last):
            x, y = training_images(data.x[rows], s.crop_padding, flip=s.flip), data.y[rows]
            with frozen(classifier, bn_branch) as model:
                attacked = pgd_examples(model, x, y, eps=s.eps, step=s.step_size, iterations=iterations)
                logits = classifier(attacked, bn_branch)
            losses.append(descend(optimiser, F.cross_entropy(logits, y)))
        context.log(epoch, loss=torch.stack(losses).mean().item())


def alf_iterations(s: PretrainSettings) -> int:
    """Steps of ALF's attack: after LP-AFT twice as many, 20 to the 10 of the authors' script for evaluation alone."""
    return 2 * s.alf_iters if s.lp_aft else s.alf_iters


def finetune_trades(
    classifier: Classifier,
    data: Part,
    clean_branch: Branch,
    adv_branch: Branch,
    stage: Stage,
    s: PretrainSettings,
    context: Context,
) -> None:
    """Train encoder and linear layer by TRADES, clean and attacked images each on their branch."""
    optimiser = stage.optimiser(classifier)
    for epoch in context.epochs(stage.epochs, phase=stage.name, classifier=classifier, optimiser=optimiser):
        set_lr(optimiser, stage.lr_at(epoch))
        losses = []
        for rows in shuffled_batches(len(data), stage.batch_size, data.x.device, drop_last=stage.drop_last):
            x, y = training_images(data.x[rows], s.crop_padding, flip=s.flip), data.y[rows]
            attacked = attack_trades(classifier, x, clean_branch, adv_branch, s)
            classifier.train()
            loss = trades_loss(classifier(x, clean_branch), classifier(attacked, adv_branch), y, s.beta)
            losses.append(descend(optimiser, loss))
        context.log(epoch, loss=torch.stack(losses).mean().item())


def attack_trades(
    classifier: Classifier, x: Tensor, clean_branch: Branch, adv_branch: Branch, s: PretrainSettings
) -> Tensor:
    """TRADES' adversarial versions of images (B, 3, H, W), from a start with a little noise."""
    return trades_examples(
        classifier,
        x,
        clean_branch,
        eps=s.eps,
        step=s.step_size,
        iterations=s.trades_iters,
        start=s.trades_noise * torch.randn_like(x),
        bn_branch=adv_branch,
    )


def descend(optimiser: Optimizer, loss: Tensor) -> Tensor:
    """One step of the optimiser; returns the loss, detached."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach()
