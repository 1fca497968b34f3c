"""The experiment on sets of graphs."""

import pytest
import torch

from methods.gind.graphs import Graphs
from retable.cards import load_datasets, load_papers
from retable.plan import recipe_cells


@pytest.fixture
def experiment(demo_cell) -> Graphs:
    cell, context = demo_cell("gind", "graphs", "gind")
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


def test_cox2_joins_the_full_table_with_its_own_settings_once_it_has_a_card(root) -> None:
    recipe, cards = load_papers(root)["gind"].recipe("graphs"), load_datasets(root)
    cards.pop("cox2", None)
    before = recipe_cells("gind", recipe, cards, "full")
    made = cards | {"cox2": cards["mutag"].model_copy(update={"name": "cox2"})}
    after = recipe_cells("gind", recipe, made, "full")
    assert [cell for cell in after if cell.dataset != "cox2"] == before
    (cell,) = (cell for cell in after if (cell.dataset, cell.variant) == ("cox2", "gind"))
    assert [cell.settings[name] for name in ("alpha", "steps", "dropout", "lr", "epochs")] == [
        0.5, 8, 0.1, 0.0041996678, 1500,
    ]  # fmt: skip
