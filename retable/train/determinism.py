"""What makes a run repeatable beside its random streams: deterministic operations and a fixed number of threads."""

import contextlib
import os
from collections.abc import Iterator

import torch
from threadpoolctl import threadpool_limits

# Read by a library's thread pool when it is loaded; pools that are loaded already are limited by threadpoolctl.
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def make_deterministic(device: torch.device) -> str:
    """Ask torch for deterministic operations, before any layer is built; returns the level for the record.

    On a GPU operations without a deterministic form only warn, so the level says so.
    """
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        return "bitwise: same machine, versions and thread count give the same bytes"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return "best effort: some GPU operations have no deterministic form"


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with `number` threads inside the block, in every pool: torch's, OpenMP's and the BLAS of numpy and scipy.

    Pools of libraries that are loaded inside the block take the limit from the environment.
    """
    before, environment = torch.get_num_threads(), {name: os.environ.get(name) for name in POOLS}
    torch.set_num_threads(number)
    os.environ.update(dict.fromkeys(POOLS, str(number)))
    try:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(before)
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
