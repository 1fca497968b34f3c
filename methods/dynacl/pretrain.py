"""Adversarial contrastive pre-training: DYNACL, and with other settings ACL and SimCLR."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from retable.data.image_batches import shuffled_batches
from retable.nn.nt_xent import nt_xent_interleaved
from retable.train.context import Context
from retable.train.distributed import all_gather_with_grad
from retable.train.optim import LARS
from retable.train.schedules import set_lr, warmup_cosine_epoch

from .attack import adversarial_views
from .data import Task, views
from .models import Pair, Projector, make_encoder
from .robustness import LearningCurve, ridge_robustness
from .schedules import Augmentation, adversarial_weight, augmentation_strength, schedule_weighted
from .settings import PretrainSettings

# The lowest learning rate of the cosine (authors' code).
FLOOR = 1e-6


def pretrain(pair: Pair, task: Task, s: PretrainSettings, context: Context) -> dict[str, list[float]]:
    """Train the pair on the unlabelled images; returns the learning curve of a ridge classifier on its encoder."""
    x = task.unlabelled.x
    optimiser, curve = make_optimiser(pair, s), LearningCurve()
    for epoch in context.epochs(s.epochs, phase="pretrain", pair=pair, optimiser=optimiser, curve=curve):
        strength, weight = schedule(epoch, s)
        augmentation = Augmentation.of_strength(strength)
        set_lr(optimiser, warmup_cosine_epoch(epoch, s.lr, s.warmup, s.epochs, FLOOR))
        pair.train()
        losses = []
        for rows in shuffled_batches(len(x), s.batch_size, x.device, drop_last=False):
            clean = views(x[rows], augmentation, s.interpolation, flip=s.flip)
            losses.append(step(pair, optimiser, clean, weight, s))
        if curve.is_due(epoch, s.epochs):
            curve.add(epoch, s.epochs, *ridge_robustness(pair.encoder, task, s))
        context.log(epoch, loss=torch.stack(losses).mean().item())
    return curve.series()


def step(pair: Pair, optimiser: Optimizer, clean: Tensor, weight: float, s: PretrainSettings) -> Tensor:
    """One optimisation step on views (2N, 3, H, W); returns the loss."""
    loss = contrastive_loss(pair, clean, attack(pair, clean, s) if s.adversarial else None, weight, s.temperature)
    pair.update()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach()


def attack(pair: Pair, clean: Tensor, s: PretrainSettings) -> Tensor:
    """The adversarial versions of views (2N, 3, H, W)."""
    return adversarial_views(pair, clean, s.temperature, eps=s.eps, step=s.step_size, iterations=s.attack_iters)


def contrastive_loss(
    pair: Pair, clean: Tensor, adversarial: Tensor | None, weight: float, temperature: float
) -> Tensor:
    """The weighted NT-Xent of views (2N, 3, H, W) and their adversarial versions; of the views alone without those.

    Where several processes each have a share of the views, the loss is that of all of them.
    """
    if adversarial is None:
        return nt_xent_interleaved(all_gather_with_grad(pair(clean, "clean")), temperature)
    # The adversarial pass comes first, as in the authors' code.
    adversarial_half = nt_xent_interleaved(all_gather_with_grad(pair(adversarial, "adv")), temperature)
    clean_half = nt_xent_interleaved(all_gather_with_grad(pair(clean, "clean")), temperature)
    return schedule_weighted(clean_half, adversarial_half, weight)


def schedule(epoch: int, s: PretrainSettings) -> tuple[float, float]:
    """Augmentation strength and weight of the adversarial half in an epoch (from 1)."""
    # K; the paper's 1000 epochs have 20 plateaus of 50.
    period = max(1, round(s.epochs / s.plateaus))
    strength = s.strength * augmentation_strength(epoch, s.epochs, period)
    return strength, adversarial_weight(epoch, s.epochs, period, s.swap, s.weight_rule)


def make_pair(s: PretrainSettings) -> Pair:
    """An untrained pair; the weights come from torch's global stream."""
    return Pair(Projector(make_encoder(s.arch), s.head_layers), s.momentum if s.momentum_encoder else None)


def make_optimiser(pair: Pair, s: PretrainSettings) -> Optimizer:
    """LARS on all tensors of q, or SGD."""
    if s.optimiser == "lars":
        return LARS(pair.q.parameters(), s.lr, form="acl", weight_decay=s.weight_decay)
    return torch.optim.SGD(pair.q.parameters(), s.lr, momentum=0.9, weight_decay=s.weight_decay)
