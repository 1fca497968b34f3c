"""Sets of graphs as batches."""

import numpy as np
import torch

from retable.data.graph_sets import GraphSet
from retable.nn.graph_set_batch import batch_of


def graphs(labels: np.ndarray | None) -> GraphSet:
    edges = np.array([[0, 1, 1, 2, 0], [1, 0, 1, 1, 1]])
    return GraphSet("two", edges, np.array([0, 0, 1]), np.array([1, 0]), labels, None, {})


def test_edges_are_there_once_without_loops_and_labels_are_features() -> None:
    batch = batch_of(graphs(np.array([0, 2, 0])))
    assert batch.edge_index.tolist() == [[0, 1, 2], [1, 0, 1]]
    assert batch.x.tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0]]
    assert (batch.node_graph.tolist(), batch.graphs) == ([0, 0, 1], 2)


def test_a_set_without_features_gets_a_constant() -> None:
    assert torch.equal(batch_of(graphs(None)).x, torch.ones(3, 1))
