"""The picture of a run shows what was masked, what was reconstructed and what was there."""

from pathlib import Path

import numpy as np
import torch

from methods.umae.pictures import reconstructions
from methods.umae.pretrain import Pretrain
from methods.umae.settings import PretrainSettings
from retable.config import Config, Workspace
from retable.plan import recipe_cells
from retable.run import make_context


def test_the_picture_ends_with_the_images_themselves(root: Path, tmp_path: Path) -> None:
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(root / name)
    workspace = Workspace(tmp_path, Config(device="cpu"))
    cells = recipe_cells("umae", workspace.papers["umae"].recipe("pretrain"), workspace.datasets, "demo")
    cell = next(cell for cell in cells if cell.variant == "umae-0.1")
    context = make_context(workspace, cell, 0, torch.device("cpu"))
    one = Pretrain(PretrainSettings.parse(cell.settings, "umae"), context)
    context.seed_torch("pictures")
    pixels = reconstructions(one.task, one.model)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (8 * (96 + 4), 3 * (96 + 4), 3)
    original = one.task.x[one.task.parts["test"][0]].permute(1, 2, 0).numpy()
    assert np.array_equal(pixels[2:98:6, 202:298:6], original)
    masked = pixels[2:98:6, 2:98:6]
    assert (masked != original).any()
