"""The loss of a step of adversarial pre-training: NT-Xent of clean and of attacked views (paper, section 2)."""

from torch import Tensor


def schedule_weighted(clean: Tensor, adversarial: Tensor, weight: float) -> Tensor:
    """The loss of a step: ((2 - w) clean + w adversarial) / 2, with w of `schedules.adversarial_weight`."""
    return ((2 - weight) * clean + weight * adversarial) / 2
