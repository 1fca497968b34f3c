"""TRADES through a pair of batch-norm routes: cross-entropy on clean images, and predictions that an attack leaves.

Zhang et al. 2019, equation 5. Fine-tuning and supervised adversarial training both use it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.dynacl.models import Classifier, fixed
from retable.evaluate.attacks import pgd


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
    clean_route: str,
    *,
    eps: float,
    step: float,
    iterations: int,
    start: Tensor,
    route: str = "pgd",
) -> Tensor:
    """Images (B, 3, H, W) within eps of x whose predictions are far from those for x on `clean_route`.

    The clean predictions are computed once: the network is at rest. With one route a `start` of exactly zero is a
    stationary point, where rounding would choose the first step; give it a little noise.
    """
    with fixed(classifier, clean_route, route):
        with torch.no_grad():
            clean = classifier(x, clean_route)
        return pgd(
            lambda attacked: divergence(clean, classifier(attacked, route)),
            x,
            eps=eps,
            step=step,
            iterations=iterations,
            start=start,
        )
