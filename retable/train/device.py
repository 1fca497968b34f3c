"""Which device a run computes on. Snakemake counts GPUs but does not name them, so a lock file hands them out."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from retable.cards import CardError
from retable.train.distributed import world_size


@contextlib.contextmanager
def claim_device(preference: str, locks: Path, runs_per_gpu: int = 1) -> Iterator[torch.device]:
    """Hold a device for a run: `cpu`, `cuda`, or `auto` (a GPU where there is one).

    Of the visible GPUs the one is taken that the fewest of `runs_per_gpu` other runs hold; when all are held by as
    many, the run waits for the first. A process that torchrun started has the GPU of its own number. Raises CardError
    when `cuda` is asked for and there is none.
    """
    gpus = torch.cuda.device_count() if preference != "cpu" and torch.cuda.is_available() else 0
    if not gpus:
        if preference == "cuda":
            raise CardError("device: cuda was asked for, but torch sees no GPU; use device=cpu or device=auto")
        yield torch.device("cpu")
        return
    if world_size() > 1:
        yield torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        return
    locks.mkdir(parents=True, exist_ok=True)
    for place, index in itertools.product(range(runs_per_gpu), range(gpus)):
        lock = FileLock(locks / f"gpu-{index}-{place}.lock", timeout=0)
        try:
            with lock:
                yield torch.device("cuda", index)
                return
        except Timeout:
            continue
    with FileLock(locks / "gpu-0-0.lock"):
        yield torch.device("cuda", 0)
