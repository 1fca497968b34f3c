"""What the extra branches see in each draw: the generator's features, or those of a control of equal budget."""

from collections.abc import Callable

import torch

from retable.cards import CardError
from retable.nn.graph_layers import Features
from retable.nn.sparse import SparseMatrix

from .generator import CVAE, Sampler, normalise_rows
from .settings import CopiesSettings
from .task import Task


def check_copies(s: CopiesSettings) -> None:
    """Raises CardError where there are copies of nothing, or none of something."""
    if (s.branches == 0) != (s.copies == "none"):
        raise CardError(f"branches is {s.branches} with copies {s.copies!r}; extra branches and copies go together")


def make_generator(task: Task, s: CopiesSettings) -> CVAE | None:
    """The untrained generator, with weights from torch's global stream, where copies are generated."""
    if s.copies != "generated":
        return None
    return CVAE(task.x.shape[1], s.generator_hidden, s.latent).to(task.x.device)


def make_copies(task: Task, s: CopiesSettings, generator: CVAE | None) -> Callable[[], list[Features]]:
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
                normalise_rows(torch.randn_like(task.x).mul_(std).add_(task.x).clamp_(0, 1)) for _ in range(s.branches)
            ]
    if generator is None:
        raise ValueError("generated copies need the generator")
    sampler = Sampler(generator, task.x)
    return lambda: [sampler.draw() for _ in range(s.branches)]


def neighbours_features(task: Task) -> SparseMatrix:
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
    return task.rows(chosen)
