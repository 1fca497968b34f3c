"""The losses of the paper's vision experiments (SimCLR on CIFAR-10), where the same halves are taken out."""

import torch
from torch import Tensor

from retable.nn.rows import unit

# Cosines below this get no gradient, in the authors' code.
FLOOR = 1e-7


def pair_loss(x: Tensor, tau: float, loss: str = "contrast") -> Tensor:
    """Loss of a batch (2n, d) in which rows 2k and 2k + 1 are views of one image.

    With s the cosines over tau, not less than ``FLOOR`` / tau: "contrast" is the cross-entropy of a row's partner
    among the 2n - 1 other rows, "no-positives" its log-sum alone, "no-negatives" minus the partner's s. The authors'
    code minimises plus the partner's s, which pushes partners apart until the floor.
    """
    s = (unit(x) @ unit(x).t()).clamp(min=FLOOR) / tau
    rows = torch.arange(len(x), device=x.device)
    pull = s[rows, rows ^ 1].mean()
    push = s.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), float("-inf")).logsumexp(1).mean()
    return {"contrast": push - pull, "no-positives": push, "no-negatives": -pull}[loss]
