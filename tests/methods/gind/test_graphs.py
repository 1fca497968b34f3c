"""The experiment on sets of graphs."""

from pathlib import Path

import pytest
import torch

from methods.gind.graphs import Graphs
from retable.config import Config, Workspace
from retable.plan import recipe_cells
from retable.run import make_context

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def experiment(tmp_path: Path) -> Graphs:
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    workspace = Workspace(tmp_path, Config(device="cpu"))
    cells = recipe_cells("gind", workspace.papers["gind"].recipe("graphs"), workspace.datasets, "demo")
    cell = next(cell for cell in cells if cell.variant == "gind")
    context = make_context(workspace, cell, 0, torch.device("cpu"))
    return Graphs(Graphs.settings_class.parse(cell.settings, "test"), context)


def test_each_graph_is_tested_once_and_never_trained_on_in_its_fold(experiment: Graphs) -> None:
    task = experiment.task
    assert torch.bincount(task.fold).tolist() == [50] * 10
    rows = (task.fold == 3).nonzero()[:, 0]
    ((batch, graph, y),) = task.batches(rows, 1000)
    assert torch.equal(y, task.y[rows])
    assert graph.graphs == batch.graphs == 50


def test_the_best_epoch_by_test_accuracy_stands_under_its_name(experiment: Graphs) -> None:
    curves = experiment.curves
    curves.accuracy[:, 0], curves.accuracy[:, 1:] = 40.0, 30.0
    metrics = experiment.measure().metrics
    assert (metrics["last_accuracy"], metrics["best_test_epoch_accuracy"]) == (30.0, 40.0)
