"""The experiment on sets of graphs."""

import pytest
import torch

from methods.gind.graphs import Graphs


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
