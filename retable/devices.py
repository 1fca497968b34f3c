"""Which device a run computes on. Snakemake and Slurm count GPUs, and several runs may see the same ones: a lock file
hands them out.
"""

import contextlib
import itertools
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from retable.cards import CardError
from retable.train.context import StopRequest
from retable.train.distributed import world_size

POLL_SECONDS = 1.0


def lock_folder() -> Path:
    """Where the locks lie: in the machine's own temporary folder, which all of a user's runs on it see."""
    return Path(tempfile.gettempdir()) / f"retable-{os.getuid()}"


def gpu_name(index: int) -> str:
    """What a visible GPU is called by all processes of all machines, whichever number it has in this one."""
    # A folder that several machines share is no mistake of the user's.
    host = socket.gethostname().partition(".")[0]
    return f"{host}-{getattr(torch.cuda.get_device_properties(index), 'uuid', index)}"


@contextlib.contextmanager
def claim_device(
    preference: str, runs_per_gpu: int = 1, stop: StopRequest | None = None, locks: Path | None = None
) -> Iterator[torch.device]:
    """Hold a device for a run: `cpu`, `cuda`, or `auto` (a GPU where there is one).

    Of the visible GPUs the one is taken that the fewest of `runs_per_gpu` other runs hold; when all places are held,
    the run says so and takes the first that comes free. A stop by signal ends the wait with SystemExit. A process that
    torchrun started has the GPU of its own number. Raises CardError when `cuda` is asked for and there is none.
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
    locks = locks or lock_folder()
    locks.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = [gpu_name(index) for index in range(gpus)]
    places = [(names[index], index, place) for place, index in itertools.product(range(runs_per_gpu), range(gpus))]
    stop, waited = stop or StopRequest(), False
    while True:
        for name, index, place in places:
            lock = FileLock(locks / f"gpu-{name}-{place}.lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            try:
                yield torch.device("cuda", index)
            finally:
                lock.release()
            return
        if not waited:
            print(f"all {len(places)} places on {gpus} GPUs are held by other runs; waiting for the first", flush=True)
            waited = True
        if stop.wait(POLL_SECONDS):
            raise SystemExit(128 + (stop.signal or signal.SIGTERM))
