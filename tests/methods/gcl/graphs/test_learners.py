"""What the methods differ in before training; training is in test_graph.py."""

from typing import get_args

import numpy as np
import pytest
import torch

from methods.gcl.graphs.learners import LEARNERS
from methods.gcl.graphs.task import FoldsTask
from methods.gcl.settings import GraphSettings


def test_every_method_that_can_be_set_is_here_but_the_rows_without_an_encoder():
    named = get_args(GraphSettings.model_fields["method"].annotation)
    assert set(named) == {*LEARNERS, "raw-features", "labels-and-degrees", "majority"}


def test_the_order_of_graphs_and_their_features_are_the_methods_own():
    assert [name for name, method in LEARNERS.items() if method.reshuffles] == ["adgcl", "joao", "autogcl"]
    assert [name for name, method in LEARNERS.items() if not method.uses_features] == ["adgcl"]


@pytest.mark.parametrize(
    ("method", "features", "loops"),
    [("graphcl", 3, True), ("joao", 3, True), ("infograph", 3, False), ("adgcl", 1, False), ("autogcl", 105, False)],
)
def test_features_and_self_loops_are_the_methods_own(method, features, loops, graph_set, graph_settings):
    task = FoldsTask(graph_set(), np.zeros((1, 24), int), graph_settings(method=method), torch.device("cpu"))
    assert task.graphs.x.shape[1] == features
    assert bool((task.graphs.edge_index[0] == task.graphs.edge_index[1]).any()) == loops
