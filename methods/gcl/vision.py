"""The loss of the paper's vision experiments (SimCLR on CIFAR-10), with the same terms removed."""

from torch import Tensor

from retable.nn.nt_xent import floored_terms

from .losses import kept
from .settings import Terms


def pair_loss(x: Tensor, tau: float, terms: Terms = "contrast") -> Tensor:
    """Loss of a batch (2n, d) in which rows 2k and 2k + 1 are views of one image.

    With s the cosines over tau, floored as :func:`floored_terms` has it: "contrast" is the cross-entropy of a row's
    partner among the 2n - 1 other rows, "no-positives" its log-sum alone, "no-negatives" minus the partner's s. The
    authors' code minimises plus the partner's s, which pushes partners apart until the floor.
    """
    return kept(*floored_terms(x, tau), terms)
