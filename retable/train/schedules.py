"""Learning-rate rules: a warm-up, then half a cosine, as pure functions of time.

Papers differ in what time is, where the line starts and whether the peak is met twice; a rule is named for that and
says whose it is. Rules that agree only up to rounding are kept apart: published numbers rest on their bytes.
`set_lr` hands a rate to an optimiser, times a group's `lr_scale`, which timm's layer decay gives.
"""

import math
from typing import Literal

from torch.optim import Optimizer


def cosine(at: float, lr: float, start: float, end: float, floor: float = 0.0) -> float:
    """Half a cosine from `lr` at time `start` to `floor` at `end`."""
    if end <= start:
        raise ValueError(f"cosine decay from {start:g} to {end:g}: the end must come after the warm-up")
    return floor + (lr - floor) / 2 * (1 + math.cos(math.pi * (at - start) / (end - start)))


def warmup_cosine(epoch: float, lr: float, warmup: float, epochs: float, floor: float = 0.0) -> float:
    """The rate at a fractional epoch: a line from 0 over `warmup` epochs, then half a cosine to `floor`.

    MAE's and U-MAE's rule: `epoch` is the number of epochs done, e.g. 2.25; the first step of a run has rate 0. BGRL's
    too, with whole steps in place of epochs.
    """
    return lr * epoch / warmup if epoch < warmup else cosine(epoch, lr, warmup, epochs, floor)


def warmup_cosine_step(step: int, lr: float, warmup: int, steps: int, start: float = 0.0, floor: float = 0.0) -> float:
    """The rate of optimiser step number `step` (from 0): a line from `start`, then half a cosine to `floor`.

    solo-learn's and triCL's rule: `lr` is reached at the last step of the warm-up and used once more at the first
    after it. A warm-up of one step has the rate `start`.
    """
    if step < warmup:
        return start + step * (lr - start) / max(warmup - 1, 1)
    return cosine(step, lr, warmup, steps, floor)


def warmup_cosine_epoch(epoch: int, lr: float, warmup: int, epochs: int, floor: float = 0.0) -> float:
    """The rate of all steps of an epoch (from 1): `lr` epoch / warmup, then half a cosine towards `floor`.

    DYNACL's rule, with warmup 10 and floor 1e-6: `lr` is reached in the last epoch of the warm-up and used once more.
    """
    return lr * epoch / warmup if epoch <= warmup else cosine(epoch - 1, lr, warmup, epochs, floor)


def warmup_cosine_timm(epoch: int, lr: float, warmup: int, epochs: int, start: float, floor: float) -> float:
    """The rate of an epoch (from 1) under timm's schedule as DeiT steps it: after each epoch, by its number.

    So the first two epochs have the rate `start`. Then a line to `lr` over `warmup` epochs, then a cosine to `floor`
    that began with the run.
    """
    at = max(epoch - 2, 0)
    return start + at * (lr - start) / warmup if at < warmup else cosine(at, lr, 0, epochs, floor)


def warmup_cosine_tail(step: int, lr: float, warmup: int, steps: int, floor: float = 0.1) -> float:
    """The rate of step 0 to `steps` - 1: a line from `lr` / warmup to `lr`, then half a cosine to `floor` of `lr`.

    SeqTopK's rule for its small language model.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    return lr * cosine_share((step - warmup) / max(1, steps - warmup), floor)


def warmup_decay(step: int, lr: float, warmup_share: float, steps: int, shape: Literal["linear", "cosine"]) -> float:
    """The rate of step 0 to `steps` - 1: a line up over a share of the steps, then a line or half a cosine to 0.

    As the usual scripts that fine-tune language models have it: `lr` is reached in the last step of the warm-up.
    """
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        return lr * ((step + 1) / warmup)
    done = (step - warmup) / max(1, steps - warmup)
    return lr * (1 - done if shape == "linear" else cosine_share(done))


def cosine_share(done: float, floor: float = 0.0) -> float:
    """The share of a rate that is left when the share `done` of the time is over: half a cosine from 1 to `floor`."""
    return floor + (1 - floor) / 2 * (1 + math.cos(math.pi * done))


def set_lr(optimiser: Optimizer, lr: float) -> None:
    """Give every group the rate `lr` times its `lr_scale`, which groups of timm's layer decay have (1 if absent)."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
