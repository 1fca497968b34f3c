"""Attacks on classifiers within an L-infinity ball: projected gradient ascent, and AutoAttack of its authors.

Images lie in [0, 1] and eps is in the same unit: 8/255 is 0.0314.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Model = Callable[[Tensor], Tensor]
# Targets of the targeted attacks in the standard version of AutoAttack.
TARGETS = 9
VERSIONS = ("standard", "lite")


def pgd(
    objective: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    eps: float,
    step: float,
    iterations: int,
    start: Tensor | None = None,
) -> Tensor:
    """Images near x (B, C, H, W) that raise `objective`, a scalar of images: the last of `iterations` steps.

    Each step adds `step` times the gradient's sign and clips the perturbation to [-eps, eps] and the image to [0, 1]
    (Madry et al. 2018). `start` is the first perturbation, which is not clipped to the image before the first
    step; without one it is drawn uniformly from torch's global stream. Only the perturbation gets a gradient.

    Raises ValueError for eps or step outside of (0, 1], no iterations, and images outside of [0, 1].
    """
    check_attack(x, eps, step, iterations)
    start = torch.empty_like(x).uniform_(-eps, eps) if start is None else start
    attacked, low, high = x + start, (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
    for _ in range(iterations):
        attacked = attacked.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(objective(attacked), attacked)
        attacked = attacked.detach().add_(gradient.sign(), alpha=step).clamp_(low, high)
    return attacked


def pgd_examples(
    model: Model, x: Tensor, y: Tensor, *, eps: float, step: float, iterations: int, start: Tensor | None = None
) -> Tensor:
    """Images near x (B, C, H, W) on which `model`, images to logits, has a high cross-entropy with labels y (B,).

    The model must be in eval mode: its rows may not depend on one another.
    """
    return pgd(
        lambda attacked: F.cross_entropy(model(attacked), y, reduction="sum"),
        x,
        eps=eps,
        step=step,
        iterations=iterations,
        start=start,
    )


def auto_attack(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    seed: int,
    version: str = "standard",
    iterations: int = 100,
    batch_size: int = 250,
) -> tuple[Tensor, Tensor]:
    """AutoAttack (Croce and Hein 2020) on float32 images x (B, C, H, W) with labels y (B,).

    "standard": APGD-CE, targeted APGD on the DLR loss, targeted FAB, Square, each on what the ones before left
    correct. "lite": the first two only; report it as AA-lite. `iterations` shortens APGD and must then be reported.
    With fewer than 10 classes all wrong ones are targets; with fewer than 4 the DLR loss is undefined and its attack
    is left out.

    Returns (attacked images, the model's answers to them); robust accuracy is the share of answers equal to y.
    Torch's global streams are as before. Raises ValueError for an unknown version, eps outside of (0, 1], images
    outside of [0, 1], and fewer than 2 classes.
    """
    from pyautoattack import AutoAttack
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    check_attack(x, eps, eps, iterations)
    if version not in VERSIONS:
        raise ValueError(f"AutoAttack's version is {version!r}; expected one of {', '.join(VERSIONS)}")
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    if classes < 2:
        raise ValueError(f"AutoAttack: the model has {classes} output; expected a logit for each of 2 or more classes")
    targets = min(TARGETS, classes - 1)
    common = {"norm": "Linf", "eps": eps, "seed": seed, "device": x.device}
    ensemble = AutoAttack(model, version="standard", **common)
    ensemble.apgd = APGDAttack(model, n_iter=iterations, n_restarts=1, logger=ensemble.logger, **common)
    ensemble.apgd_targeted = APGDAttack_targeted(
        model, n_iter=iterations, n_restarts=1, n_target_classes=targets, logger=ensemble.logger, **common
    )
    ensemble.fab.n_target_classes = targets
    attacks = ["apgd-ce", "apgd-t"] if version == "lite" else ["apgd-ce", "apgd-t", "fab-t", "square"]
    ensemble.attacks_to_run = [name for name in attacks if name != "apgd-t" or classes >= 4]
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        return ensemble.run_standard_evaluation(x, y, batch_size=batch_size)


def check_attack(x: Tensor, eps: float, step: float, iterations: int) -> None:
    """Raises ValueError for a perturbation that is no small change of images in [0, 1]."""
    check_budget(eps, step, iterations)
    low, high = (float(bound) for bound in x.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images lie in [{low:.3g}, {high:.3g}]; expected [0, 1]: attack pixels, before they are standardised"
        )


def check_budget(eps: float, step: float, iterations: int) -> None:
    """Raises ValueError for eps or step outside of (0, 1] and for no iterations."""
    if not 0 < eps <= 1:
        raise ValueError(f"eps is {eps}; expected above 0 and at most 1, in units of pixels in [0, 1] (8/255 = 0.0314)")
    if not 0 < step <= 1:
        raise ValueError(f"the attack's step is {step}; expected above 0 and at most 1, like eps")
    if iterations < 1:
        raise ValueError(f"the attack has {iterations} iterations; expected 1 or more")
