from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from retable.config import Config, Workspace
from retable.plan import Cell, recipe_cells
from retable.run import make_context
from retable.train.context import Context

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo_cell(tmp_path: Path) -> Callable[..., tuple[Cell, Context]]:
    """`demo_cell(paper, recipe, variant, scale, dataset, **settings)`: a cell, of the demo unless said otherwise, with
    changed settings, and a context for its seed 0.
    """
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    workspace = Workspace(tmp_path, Config(device="cpu"))

    def made(
        paper: str, recipe: str, variant: str, scale: str = "demo", dataset: str | None = None, **settings
    ) -> tuple[Cell, Context]:
        cells = recipe_cells(paper, workspace.papers[paper].recipe(recipe), workspace.datasets, scale)
        cell = next(cell for cell in cells if cell.variant == variant and dataset in (None, cell.dataset))
        cell.settings.update(settings)
        return cell, make_context(workspace, cell, 0, torch.device("cpu"))

    return made
