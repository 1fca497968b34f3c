"""The graphs of a set."""

import numpy as np
import torch

from methods.map.graphs import adjacencies, encoding_of, spectrum_of
from retable.data.graph_sets import GraphSet


def two_graphs() -> GraphSet:
    edges = np.array([[3, 4, 4, 0, 1, 3], [4, 3, 2, 1, 0, 4]])
    return GraphSet("two", edges, np.array([0, 0, 1, 1, 1]), np.array([0, 1]), None, None, {})


def test_each_graph_has_its_own_symmetric_adjacency_in_the_order_asked() -> None:
    second, first = adjacencies(two_graphs(), np.array([1, 0]))
    assert first.tolist() == [[0, 1], [1, 0]]
    assert second.tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]


def test_names_switch_the_steps() -> None:
    pairs = spectrum_of(next(adjacencies(two_graphs(), np.array([1]))))
    raw, sign, both = (encoding_of(pairs, 2, name).columns for name in ("raw", "sign", "map"))
    torch.testing.assert_close(raw.abs(), both.abs())
    torch.testing.assert_close(sign, both)
