"""The contrastive loss of adversarial pre-training, NT-Xent over interleaved views (paper, section 2)."""

import torch.nn.functional as F
from torch import Tensor


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """Mean over rows of -log of the softmax weight that a row gives to the other view of its image.

    z (2N, d): rows 2i and 2i + 1 are the views of image i, so the partner of row j is j xor 1. With cosine
    similarities s, the loss of row j is -s[j, partner] / t + log(sum over i != j of exp(s[j, i] / t)).

    Raises ValueError for a temperature that is not positive and for rows that do not pair up.
    """
    if temperature <= 0:
        raise ValueError(f"nt_xent: temperature is {temperature}; expected a number above 0")
    if z.ndim != 2 or len(z) < 2 or len(z) % 2:
        raise ValueError(f"nt_xent: views have shape {tuple(z.shape)}; expected (2N, d), two rows for each image")
    unit = F.normalize(z, dim=1, eps=1e-8)
    logits = unit @ unit.T / temperature
    partners = (unit[0::2] * unit[1::2]).sum(1) / temperature
    return logits.fill_diagonal_(float("-inf")).logsumexp(1).mean() - partners.mean()


def schedule_weighted(clean: Tensor, adversarial: Tensor, weight: float) -> Tensor:
    """The loss of a step: ((2 - w) clean + w adversarial) / 2, with w of `schedules.adversarial_weight`."""
    return ((2 - weight) * clean + weight * adversarial) / 2
