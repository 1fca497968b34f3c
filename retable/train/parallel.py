"""One run on several processes that torchrun started: each takes its share of every batch, the first one writes.

    torchrun --nproc-per-node 8 -m retable run umae/imagenet-probe --scale full

The functions here do nothing in a process that is alone. An experiment that uses them says `parallel = True`.
"""

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from retable.cards import CardError
from retable.train.distributed import rank, world_size

T = TypeVar("T")


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def broadcast(value: T) -> T:
    """The first process's value, in all; it must pickle."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def any_rank(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if world_size() == 1:
        return flag
    flags = [False] * world_size()
    dist.all_gather_object(flags, flag)
    return any(flags)


def all_reduce_mean(values: Tensor) -> Tensor:
    """The mean over the processes."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def shard(batch: Tensor) -> Tensor:
    """This process's rows of a batch that all have."""
    return batch if world_size() == 1 else batch[rank() :: world_size()]


def ddp(step: nn.Module, batch_size: int) -> nn.Module:
    """`step` with gradients averaged over the processes; parameters that a step does not use are allowed.

    Raises CardError where `batch_size` cannot be shared equally.
    """
    if batch_size % world_size():
        raise CardError(f"a batch of {batch_size} cannot be shared equally by {world_size()} processes")
    if world_size() == 1:
        return step
    on_gpu = next(step.parameters()).device.type == "cuda"
    device_ids = [torch.cuda.current_device()] if on_gpu else None
    return DistributedDataParallel(step, device_ids=device_ids, find_unused_parameters=True)
