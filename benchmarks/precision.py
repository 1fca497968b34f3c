"""What bfloat16 and channels-last memory gain in a training step of small networks: README.md records the figures.

One thread; forward, backward and optimiser step on random images. All forms of a network take turns (A B A B) in one
process; medians of processor time. On a CPU bfloat16 wins where the processor multiplies it (avx512_bf16, amx_bf16),
and needs no scaling of the loss. The loss after the steps is printed: it should not depend on the form.

    python benchmarks/precision.py             # both; a minute or two on an idle core
    python benchmarks/precision.py resnet vit  # some of: resnet, vit
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from methods.tricl.baselines import simclr
from methods.umae.mae import MAE
from methods.umae.vit import SIZES
from retable.nn.backbones import small_resnet

BATCH, ROUNDS = 128, 11
FORMS = {
    "float32": (False, False),
    "float32, channels last": (False, True),
    "bfloat16": (True, False),
    "bfloat16, channels last": (True, True),
}


def resnet() -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
    """A residual network of three blocks (32, 64, 128 channels) under NT-Xent on 32 x 32 images."""
    return nn.Sequential(small_resnet(32), nn.Linear(128, 64)), lambda model, x: simclr(model(x).float(), 0.2)


def vit() -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
    """A masked autoencoder of width 96 and 4 blocks with 4 x 4 patches on 32 x 32 images."""
    model = MAE(SIZES["vit-96-4"], 10)
    return model, lambda model, x: model(x, torch.rand(len(x), 64)).loss


def measure(what: str, network: nn.Module, loss_of: Callable[[nn.Module, Tensor], Tensor], forms: list[str]) -> None:
    """Print a row for each form: time of a step, ratio to float32, and the loss after all steps."""
    x = torch.rand(BATCH, 3, 32, 32)
    steps, times, losses = {}, {form: [] for form in forms}, dict.fromkeys(forms, 0.0)
    for form in forms:
        narrow, last = FORMS[form]
        layout = torch.channels_last if last else torch.contiguous_format
        model = copy.deepcopy(network).to(memory_format=layout)
        images = x.to(memory_format=layout)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

        def step(model=model, images=images, optimiser=optimiser, narrow=narrow) -> float:
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                loss = loss_of(model, images)
            loss.backward()
            optimiser.step()
            return loss.item()

        steps[form] = step
    for turn in range(ROUNDS + 1):
        for form, step in steps.items():
            torch.manual_seed(turn)
            start = time.process_time()
            losses[form] = step()
            if turn:
                times[form].append((time.process_time() - start) * 1e3)
    for form in forms:
        ratio = statistics.median(a / b for a, b in zip(times["float32"], times[form], strict=True))
        print(f"| {what} | {form} | {statistics.median(times[form]):.0f} ms | {ratio:.2f} | {losses[form]:.3f} |")


PARTS = {"resnet": (resnet, list(FORMS)), "vit": (vit, ["float32", "bfloat16"])}

if __name__ == "__main__":
    torch.set_num_threads(1)
    if unknown := set(sys.argv[1:]) - set(PARTS):
        sys.exit(f"unknown part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    print(f"bfloat16 instructions: {', '.join(f for f in ('avx512_bf16', 'amx_bf16') if f in flags) or 'none'}\n")
    print(f"| network, batch {BATCH} | form | step | float32 / form | loss |\n|---|---|---|---|---|")
    for part in sys.argv[1:] or PARTS:
        torch.manual_seed(0)
        make, forms = PARTS[part]
        measure(part, *make(), forms)
