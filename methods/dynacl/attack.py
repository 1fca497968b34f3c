"""The attack on the contrastive loss: views that are hard to recognise as views of one image (paper, section 2)."""

import torch
from torch import Tensor

from methods.dynacl.models import Pair, fixed
from retable.evaluate.attacks import pgd
from retable.nn.nt_xent import nt_xent_interleaved
from retable.train.distributed import all_gather_with_grad


def contrast(pair: Pair, views: Tensor, route: str, temperature: float) -> Tensor:
    """NT-Xent of views (2N, 3, H, W) on a route; over the batches of all processes where there are several."""
    return nt_xent_interleaved(all_gather_with_grad(pair(views, route)), temperature)


def adversarial_views(
    pair: Pair,
    views: Tensor,
    temperature: float,
    *,
    eps: float,
    step: float,
    iterations: int,
    start: Tensor | None = None,
    route: str = "pgd",
) -> Tensor:
    """Views (2N, 3, H, W) in [0, 1], all perturbed at once within eps to raise NT-Xent; the last iterate.

    The networks are at rest (eval mode, batch norms of `route`) and only the perturbation gets a gradient: it flows
    through both networks of the pair. `start` as in `retable.evaluate.attacks.pgd`, which raises the errors.
    """
    with fixed(pair, route):
        return pgd(
            lambda x: contrast(pair, x, route, temperature),
            views.contiguous(memory_format=torch.channels_last),
            eps=eps,
            step=step,
            iterations=iterations,
            start=start,
        )
