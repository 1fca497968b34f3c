"""The attack on the contrastive loss: views that are hard to recognise as views of one image (paper, section 2)."""

import torch
from torch import Tensor

from retable.evaluate.attacks import pgd
from retable.nn.nt_xent import nt_xent_interleaved
from retable.train.distributed import all_gather_with_grad

from .models import Branch, Pair, folded_batchnorm


def adversarial_views(
    pair: Pair,
    views: Tensor,
    temperature: float,
    *,
    eps: float,
    step: float,
    iterations: int,
    start: Tensor | None = None,
    bn_branch: Branch = "adv",
) -> Tensor:
    """Views (2N, 3, H, W) in [0, 1], all perturbed at once within eps to raise NT-Xent; the last iterate.

    The networks are in eval mode and only the perturbation gets a gradient, which flows through both networks of the
    pair. Several processes, each with a share of the views, raise one loss of all. `start` as in
    `retable.evaluate.attacks.pgd`, which raises the errors.
    """
    with folded_batchnorm(pair, bn_branch):
        return pgd(
            lambda x: nt_xent_interleaved(all_gather_with_grad(pair(x, bn_branch)), temperature),
            views.contiguous(memory_format=torch.channels_last),
            eps=eps,
            step=step,
            iterations=iterations,
            start=start,
        )
