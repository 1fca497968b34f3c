from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from retable.config import Config, Workspace
from retable.plan import Cell, recipe_cells
from retable.run import make_context
from retable.train.context import Context

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[Cell, Context]]:
    """`make(recipe, variant, scale, **settings)`: a cell with changed settings, and a context for its seed 0."""
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    workspace = Workspace(tmp_path, Config(device="cpu"))

    def made(
        recipe: str, variant: str, scale: str = "demo", dataset: str | None = None, **settings
    ) -> tuple[Cell, Context]:
        paper = workspace.papers["tricl"]
        cells = recipe_cells("tricl", paper.recipe(recipe), workspace.datasets, scale)
        cell = next(c for c in cells if c.variant == variant and dataset in (None, c.dataset))
        cell.settings.update(settings)
        return cell, make_context(workspace, cell, 0, torch.device("cpu"))

    return made
