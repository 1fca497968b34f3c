import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from methods.gcl.graphs.learner import Learner
from methods.gcl.graphs.task import FoldsTask, learner_class
from retable.data.graph_sets import Folds, GraphSet


@pytest.fixture
def task_of(graph_settings) -> Callable[..., FoldsTask]:
    """Gives the task of a set of graphs, with changes of the settings."""

    def task_of(graphs: GraphSet, folds: int = 1, **settings) -> FoldsTask:
        numbers = Folds(np.arange(len(graphs.y)) // 2 % folds)
        return FoldsTask(graphs, numbers, graph_settings(**settings), torch.device("cpu"))

    return task_of


def test_a_set_without_features_gets_a_constant_and_says_so(task_of, graph_set, capsys):
    task = task_of(graph_set(labels=False))
    assert torch.equal(task.graphs.x, torch.ones(len(task.graphs.x), 1))
    said = capsys.readouterr().err.splitlines()
    assert said == ["made-up: no node features; every node gets the constant 1"]


def test_attributes_are_features_where_asked_for(task_of, graph_set):
    plain = graph_set()
    rich = dataclasses.replace(plain, node_attributes=np.ones((len(plain.node_graph), 2), dtype=np.float32))
    for asked, columns in ((False, 3), (True, 5)):
        assert task_of(rich, node_attributes=asked).graphs.x.shape[1] == columns


def test_a_row_without_an_encoder_leaves_the_data_as_they_are(task_of, graph_set, graph_settings):
    assert learner_class(graph_settings(method="raw-features")) is Learner
    task, graphs = task_of(graph_set(30), method="raw-features"), graph_set(30)
    assert task.graphs.x.shape[1] == 3
    assert sorted(task.graphs.edge_index.T.tolist()) == sorted(graphs.edge_index.T.tolist())


def test_raw_features_are_sums_over_each_graph(task_of, graph_set):
    raw = task_of(graph_set(), method="raw-features").raw_features()
    assert raw.sum(1).tolist() == [4 + number % 4 for number in range(24)]  # one-hot kinds: the number of nodes
    assert raw[0].tolist() == [0, 0, 4]  # a ring of degree 2
    assert raw[1].tolist() == [0, 5, 0]  # a star: its centre has degree 4, its leaves 1, and kinds are degrees modulo 3


def test_scores_are_right_where_classes_are_apart_and_a_half_for_the_majority(task_of, graph_set):
    task = task_of(graph_set(), folds=3, svm_inner_folds=2, svm_lowest_cost=0.1, svm_highest_cost=1.0)
    apart = torch.from_numpy(2.0 * task.y - 1)[:, None]
    assert task.scores(apart) == {
        "svm_accuracy": 100,
        "svm_standardised_accuracy": 100,
        "svm_fold_deviation": 0,
        "svm_unconverged": 0,
    }
    assert task.majority_scores() == {"svm_accuracy": 50, "svm_standardised_accuracy": 50, "svm_fold_deviation": 0}
