"""TRADES with a batch-norm branch for each half: cross-entropy on clean images, KL divergence under attack.

Zhang et al. 2019, equation 5. Adversarial fine-tuning (AFT, AFF) and supervised adversarial training use it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from retable.evaluate.attacks import pgd

from .models import Branch, Classifier, folded_batchnorm


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(adversarial)), summed over rows; logits (B, classes). Both sides get gradients."""
    log_p, log_q = clean.log_softmax(1), adversarial.log_softmax(1)
    return F.kl_div(log_q, log_p, reduction="sum", log_target=True)


def trades_loss(clean: Tensor, adversarial: Tensor, y: Tensor, beta: float) -> Tensor:
    """CE(clean, y) + beta KL(clean || adversarial) / B, logits (B, classes) and labels (B,)."""
    return F.cross_entropy(clean, y) + beta * divergence(clean, adversarial) / len(y)


def trades_examples(
    classifier: Classifier,
    x: Tensor,
    clean_branch: Branch,
    *,
    eps: float,
    step: float,
    iterations: int,
    start: Tensor,
    bn_branch: Branch = "adv",
) -> Tensor:
    """Images (B, 3, H, W) within eps of x that maximise the divergence from the predictions for x on `clean_branch`.

    The clean predictions are computed once, since the network is in eval mode. If both branches are the same, a `start`
    of exactly zero is a stationary point, where rounding would choose the first step: add a little noise.
    """
    with folded_batchnorm(classifier, clean_branch, bn_branch):
        with torch.no_grad():
            clean = classifier(x, clean_branch)
        return pgd(
            lambda attacked: divergence(clean, classifier(attacked, bn_branch)),
            x,
            eps=eps,
            step=step,
            iterations=iterations,
            start=start,
        )
