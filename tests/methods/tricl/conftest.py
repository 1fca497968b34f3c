from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from retable.plan import Cell
from retable.run import evaluate, measure
from retable.settings import load_paper_module
from retable.train.context import Context, Result

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def make(demo_cell) -> Callable[..., tuple[Cell, Context]]:
    """`make(recipe, variant, scale, **settings)`: a cell with changed settings, and a context for its seed 0."""
    return partial(demo_cell, "tricl")


@pytest.fixture
def build(make):
    """`build(module, recipe, variant, ...)`: the untrained experiment of a cell, its arguments as those of `make`."""

    def built(module: ModuleType, *names: str, **settings):
        cell, context = make(*names, **settings)
        kind = module.EXPERIMENT
        return kind(kind.settings_class.parse(cell.settings, "test"), context)

    return built


@pytest.fixture
def run() -> Callable[[Cell, Context], Result]:
    """Trains and measures a cell as the engine does."""
    return lambda cell, context: measure(module_of(cell), cell, context)


@pytest.fixture
def evaluated() -> Callable[[Cell, Context], Result]:
    """Measures a cell by the weights that its run saved."""
    return lambda cell, context: evaluate(module_of(cell), cell, context)


def module_of(cell: Cell) -> ModuleType:
    experiments = {"identifiability": "synthetic", "importance": "images", "two-tower": "two_tower"}
    return load_paper_module("tricl", experiments.get(cell.recipe, cell.recipe))


# Losses one pair at a time --------------------------------------------------------------------------------------------


def similarities(q: Tensor, z: Tensor, ids: Tensor) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Of each anchor: scores of its positives and of its negatives."""
    every = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positive = [q[i] @ z[j] for j in others if ids[j] == ids[i]]
        every.append((positive, [q[i] @ z[j] for j in others if ids[j] != ids[i]]))
    return every


@pytest.fixture
def nt_xent() -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    """NT-Xent of anchors, keys, ids and a temperature, by loops over pairs."""

    def loss(q: Tensor, z: Tensor, ids: Tensor, temperature: float) -> Tensor:
        values = []
        for positive, negative in similarities(q, z, ids):
            up = sum((s / temperature).exp() for s in positive)
            values.append(-(up / (up + sum((s / temperature).exp() for s in negative))).log())
        return torch.stack(values).mean()

    return loss


@pytest.fixture
def spectral() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The spectral loss of anchors, keys and ids, by loops over pairs."""

    def loss(q: Tensor, z: Tensor, ids: Tensor) -> Tensor:
        pairs = similarities(q, z, ids)
        pull = sum(sum(positive) for positive, _ in pairs) / len(z)
        return -pull + sum(sum(s**2 for s in negative) for _, negative in pairs) / len(z) ** 2

    return loss


@pytest.fixture
def same() -> Callable[..., None]:
    """Asserts that two losses and their gradients by the other arguments are close."""

    def check(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs)
        gradients = (torch.autograd.grad(x, inputs, retain_graph=True) for x in (ours, theirs))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)

    return check
