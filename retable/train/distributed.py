"""One batch over several processes: losses that compare all its samples see all of them, with the right gradient.

Each process holds an equal share of the batch. Started by `torchrun`, a script opens `process_group()` and wraps its
model in torch's DistributedDataParallel; a loss of `all_gather_with_grad(z)` then has the value and, after the wrapper
has averaged, the parameters' gradients of one process with the whole batch. Without processes every function here does
nothing.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """The number of processes that share a batch; 1 outside of a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def all_gather_with_grad(z: Tensor) -> Tensor:
    """Rows (n, ...) of all W processes, (W n, ...) in the order of their ranks; z itself if there is one process.

    The gradient of a row is summed over the processes, each of which may have used it. Where all compute the same loss
    of the gathered rows, that is W times its gradient, and averaging over processes, as DistributedDataParallel does,
    makes the parameters' gradient exact. All processes must give as many rows: drop a last, smaller batch.

    Rows come rank by rank, so gather two stacked views one by one:
    `torch.cat([all_gather_with_grad(v) for v in z.chunk(2)])`.
    """
    return z if world_size() == 1 else _Gather.apply(z)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        parts = [torch.empty_like(z, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]


@contextlib.contextmanager
def process_group() -> Iterator[torch.device]:
    """Join the processes that torchrun started and leave them at the end; gives this one's device.

    That is the GPU with this process's local number (then NCCL is used), or the CPU without GPUs (gloo). A script that
    torchrun did not start stays alone. RuntimeError for fewer GPUs than local processes.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if gpus and local >= gpus:
        raise RuntimeError(
            f"process {local} of this machine has no GPU: it has {gpus}; lower torchrun's --nproc-per-node"
        )
    device = torch.device("cuda", local) if gpus else torch.device("cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    # Its functions take the group of this moment as a default. Imported later, by DistributedDataParallel, they would
    # keep the group and its threads past `destroy_process_group`, and a thread that lets go of a tensor while Python
    # ends aborts the process.
    from torch.distributed import nn  # noqa: F401

    if gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpus else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
