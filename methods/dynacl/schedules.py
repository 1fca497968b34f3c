"""The idea of DYNACL: augmentations grow weaker while the loss moves to its adversarial half (paper, section 4).

Epochs are counted from 1. E is the number of epochs, K the period in which the strength stays as it is.
"""

from dataclasses import dataclass

from torch import Tensor

from .settings import WeightRule


def augmentation_strength(epoch: int, epochs: int, period: int) -> float:
    """s(e) = 1 - floor((e - 1) / K) K / E: 1 in the first K epochs, K / E in the last (0 is never reached).

    With K above E it stays 1, which is how the authors' code makes ACL. Raises ValueError for an epoch outside of 1
    to E and for a period below 1.
    """
    _check(epoch, epochs, period)
    return 1 - (epoch - 1) // period * (period / epochs)


def adversarial_weight(epoch: int, epochs: int, period: int, swap: float, rule: WeightRule = "code") -> float:
    """w(e), the weight of the adversarial half of the loss; the clean half has 2 - w(e).

    "code": 1 + floor(e / K) K / E lambda, which moves one epoch before the strength does.
    "one-minus-strength": 1 + lambda (1 - s(e)), as others implement it. `swap` is lambda. Both stay at most 2, or the
    clean half would get a negative weight. Raises ValueError for a negative lambda.
    """
    if swap < 0:
        raise ValueError(f"swap (lambda) is {swap}; expected 0 or more: the loss moves to its adversarial half")
    if rule == "one-minus-strength":
        return min(1 + swap * (1 - augmentation_strength(epoch, epochs, period)), 2.0)
    _check(epoch, epochs, period)
    return min(1 + epoch // period * (period / epochs) * swap, 2.0)


def schedule_weighted(clean: Tensor, adversarial: Tensor, weight: float) -> Tensor:
    """The loss of a step from its two halves, scalars: ((2 - w) clean + w adversarial) / 2."""
    return ((2 - weight) * clean + weight * adversarial) / 2


@dataclass(frozen=True)
class Augmentation:
    """Parameters of the transforms of one view, in the order in which they are applied."""

    smallest_crop: float
    jitter_probability: float
    jitter: float
    hue: float
    grayscale_probability: float
    flip_probability: float = 0.5
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    @classmethod
    def of_strength(cls, s: float) -> "Augmentation":
        """SimCLR's augmentation at s = 1; nothing but flips and whole images at s = 0.

        Crop area from 1 - 0.9 s, colour jitter of 0.4 s (hue 0.1 s) with probability 0.8 s, grayscale with 0.2 s.
        Flips and aspect ratios are not annealed. Raises ValueError for s outside of 0 to 1.
        """
        if not 0 <= s <= 1:
            raise ValueError(f"augmentation strength is {s}; expected 0 (none) to 1 (SimCLR's)")
        return cls(1 - 0.9 * s, 0.8 * s, 0.4 * s, 0.1 * s, 0.2 * s)


def _check(epoch: int, epochs: int, period: int) -> None:
    if not 1 <= epoch <= epochs:
        raise ValueError(f"epoch is {epoch}; expected 1 to {epochs}")
    if period < 1:
        raise ValueError(f"period (K) is {period}; expected 1 epoch or more")
