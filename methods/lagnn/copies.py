"""What the extra branches see in each draw: the generator's features, or those of a control of equal budget."""

from collections.abc import Callable

import torch
from torch import Tensor

from retable.nn.graph_layers import Features

from .generator import CVAE, Sampler, normalise_rows
from .settings import NodeSettings
from .task import Task


def make_copies(task: Task, s: NodeSettings, generator: CVAE | None) -> Callable[[], list[Features]]:
    """A function that draws the extra branches' features, `branches` times (n, F), by torch's global generator."""
    match s.copies:
        case "none":
            return list
        case "real":
            return lambda: [task.sparse] * s.branches
        case "neighbour":
            return lambda: [neighbours_features(task) for _ in range(s.branches)]
        case "noise":
            std = s.noise * task.x.std()
            return lambda: [
                normalise_rows((task.x + std * torch.randn_like(task.x)).clamp(0, 1)) for _ in range(s.branches)
            ]
    if generator is None:
        raise ValueError("generated copies need the generator")
    sampler = Sampler(generator, task.x)
    return lambda: [sampler.draw() for _ in range(s.branches)]


def neighbours_features(task: Task) -> Tensor:
    """The row-normalised features of a random neighbour of each node (n, F); a node without one keeps its own."""
    source, target = task.edges
    nodes = len(task.y)
    # The last of a random order of each node's edges.
    order = torch.randperm(len(source)).to(source.device)
    chosen = torch.arange(nodes, device=source.device)
    rank = torch.full((nodes,), -1, device=source.device).scatter_reduce(
        0, source[order], torch.arange(len(order), device=source.device), "amax"
    )
    has = rank >= 0
    chosen[has] = target[order][rank[has]]
    return task.normalised[chosen]
