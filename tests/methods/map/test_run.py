"""Graph classification with an encoding."""

from pathlib import Path

import torch

from methods.map.run import Task
from methods.map.settings import ClassifySettings
from retable.config import Config, Workspace
from retable.plan import recipe_cells
from retable.run import make_context

ROOT = Path(__file__).resolve().parents[3]


def task_of(folder: Path, encoding: str) -> Task:
    for name in ("methods", "datasets", "retable"):
        (folder / name).symlink_to(ROOT / name)
    workspace = Workspace(folder, Config(device="cpu"))
    cells = recipe_cells("map", workspace.papers["map"].recipe("graphs"), workspace.datasets, "demo")
    cell = next(cell for cell in cells if cell.variant == "map")
    settings = ClassifySettings.parse(cell.settings | {"encoding": encoding}, "test")
    return Task(settings, make_context(workspace, cell, 0, torch.device("cpu")))


def test_parts_are_disjoint_and_a_batch_has_the_encodings_of_its_graphs(tmp_path: Path) -> None:
    task = task_of(tmp_path, "map")
    parts = torch.cat([task.train, task.val, task.test])
    assert sorted(parts.tolist()) == list(range(len(task.y)))
    assert [len(part) for part in (task.val, task.test)] == [50, 50]
    rows = torch.tensor([7, 2])
    batch, columns, y = task.batch(rows)
    whole = torch.cat([task.columns[task.graphs.node_graph == graph] for graph in rows])
    assert torch.equal(columns, whole)
    assert torch.equal(y, task.y[rows])
    assert torch.equal(batch.x, torch.cat([task.graphs.x[task.graphs.node_graph == graph] for graph in rows]))


def test_no_encoding_is_computed_where_none_is_read(tmp_path: Path) -> None:
    assert not task_of(tmp_path, "none").columns.any()
