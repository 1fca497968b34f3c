import dataclasses
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from methods.gcl.graphs.autogcl import DEGREE_CAP
from methods.gcl.graphs.learner import Learner
from methods.gcl.graphs.task import FoldsTask, fold_divisions, learner_class
from retable.cards import CardError
from retable.data.graph_sets import GraphSet
from retable.train.randomness import derive


@pytest.fixture
def task_of(graph_settings) -> Callable[..., FoldsTask]:
    """Gives the task of a set of graphs, with changes of the settings."""

    def task_of(graphs: GraphSet, folds: int = 1, **settings) -> FoldsTask:
        numbers = np.arange(len(graphs.y))
        divisions = np.stack([numbers // 2 % folds, numbers // 4 % folds])
        return FoldsTask(graphs, divisions, graph_settings(**settings), torch.device("cpu"))

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


SMALL_SVM = {"svm_inner_folds": 2, "svm_lowest_cost": 0.1, "svm_highest_cost": 1.0}


def test_scores_are_right_where_classes_are_apart_and_a_half_for_the_majority(task_of, graph_set):
    task = task_of(graph_set(), folds=3, **SMALL_SVM)
    apart = torch.from_numpy(2.0 * task.y - 1)[:, None]
    counted = {"largest_class_share": 50, "test_items": 24}
    right = {"accuracy": 100, **counted, "unconverged": 0}
    assert task.scores(apart) == {
        **{f"svm_{name}": value for name, value in (right | {"fits": 2 * 3 * 2 * (2 + 1)}).items()},
        **{f"svm_standardised_{name}": value for name, value in (right | {"fits": 3 * 2 * (2 + 1)}).items()},
        "svm_fold_deviation": 0,
        "svm_division_deviation": 0,
    }
    half = {"accuracy": 50, "largest_class_share": 100, "test_items": 24}
    assert task.majority_scores() == {
        **{f"{machine}_{name}": value for machine in ("svm", "svm_standardised") for name, value in half.items()},
        "svm_fold_deviation": 0,
        "svm_division_deviation": 0,
    }


def test_a_number_is_the_mean_over_the_divisions_and_the_first_is_the_standardised_ones(task_of, graph_set):
    task = task_of(graph_set(), folds=3, **SMALL_SVM)
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(24, 4)) + 0.6 * task.y[:, None])
    alone = []
    for division in task.divisions:
        task_alone = task_of(graph_set(), folds=3, **SMALL_SVM)
        task_alone.divisions = division[None]
        alone.append(task_alone.scores(z))
    first, second = (scores["svm_accuracy"] for scores in alone)
    got = task.scores(z)
    assert first != second
    assert got["svm_accuracy"] == pytest.approx((first + second) / 2)
    assert got["svm_division_deviation"] == pytest.approx(abs(first - second) / 2**0.5)
    assert got["svm_fold_deviation"] == pytest.approx(np.mean([scores["svm_fold_deviation"] for scores in alone]))
    assert got["svm_standardised_accuracy"] == alone[0]["svm_standardised_accuracy"]


def test_scikit_learns_machine_is_asked_where_the_settings_say_so(task_of, graph_set):
    task = task_of(graph_set(), folds=3, linear_svc=True, **SMALL_SVM)
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(24, 4)) + 0.6 * task.y[:, None])
    got = task.scores(z)
    task.divisions = task.divisions[:1]
    assert got["svm_gain"] == task.scores(z)["svm_accuracy"] - got["linear_svc_accuracy"]
    assert got["linear_svc_fits"] == 3 * (2 * 2 + 1)
    assert {"linear_svc_unconverged", "linear_svc_largest_class_share"} <= set(got)


def test_degrees_stand_beside_the_labels(task_of, graph_set):
    both = task_of(graph_set(), method="labels-and-degrees").labels_and_degrees()
    assert both.shape == (24, 3 + DEGREE_CAP + 1)
    ring, star = both[0, 3:], both[1, 3:]
    assert (ring[2], ring.sum()) == (4, 4)  # four nodes of degree 2
    assert (star[1], star[4], star.sum()) == (4, 1, 5)


def test_degrees_above_the_cap_are_counted_as_one(task_of, graph_set):
    graphs = graph_set()
    hub = np.stack([np.zeros(150, int), np.arange(1, 151)])
    wheel = dataclasses.replace(
        graphs, edge_index=np.concatenate([hub, hub[::-1]], axis=1), node_graph=np.zeros(151, int), y=np.zeros(1, int),
        node_labels=None,
    )  # fmt: skip
    (counts,) = task_of(wheel, method="labels-and-degrees").labels_and_degrees()
    assert counts[:3].tolist() == [151, 0, 150]
    assert counts[-1] == 1


def test_divisions_are_the_seeds_and_the_data_sets_own(graph_set):
    graphs = graph_set()
    contexts = [SimpleNamespace(derive=partial(derive, seed)) for seed in (0, 0, 1)]
    once, again, other = (fold_divisions(graphs, 4, 3, context) for context in contexts)
    assert once.shape == (3, 24)
    assert np.array_equal(once, again)
    named = fold_divisions(dataclasses.replace(graphs, name="another"), 4, 3, contexts[0])
    assert len({row.tobytes() for row in (*once, *other, *named)}) == 9
    for folds in once:
        assert [np.bincount(graphs.y[folds == fold]).tolist() for fold in range(4)] == [[3, 3]] * 4
    with pytest.raises(CardError, match="svm_divisions is 0; expected 1 or more"):
        fold_divisions(graphs, 4, 0, contexts[0])
