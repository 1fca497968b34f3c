from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from methods.lagnn.settings import NodeSettings
from retable.config import Config, Workspace
from retable.plan import recipe_cells
from retable.run import make_context
from retable.train.context import Context

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[NodeSettings, Context]]:
    """`make(variant, **settings)`: the settings of a demo cell and a context for its seed 0."""
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    workspace = Workspace(tmp_path, Config(device="cpu"))

    def made(variant: str, **settings) -> tuple[NodeSettings, Context]:
        cells = recipe_cells("lagnn", workspace.papers["lagnn"].recipe("nodes"), workspace.datasets, "demo")
        cell = next(cell for cell in cells if cell.variant == variant)
        context = make_context(workspace, cell, 0, torch.device("cpu"))
        return NodeSettings.parse(cell.settings | settings, "test"), context

    return made
