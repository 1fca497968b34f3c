"""What is counted of several graphs of nodes, and what their hash covers."""

import numpy as np
import pytest

from retable.data.containers import NodeSplit, content_sha256, count
from retable.data.node_sets import NodeSet


def node_set(**changes) -> NodeSet:
    """A chain of three nodes with one loop, listed in both directions, and a pair."""
    parts = {
        "name": "small",
        "x": np.arange(10, dtype=np.float32).reshape(5, 2),
        "edge_index": np.array([[0, 1, 1, 2, 2, 3, 4], [1, 0, 2, 1, 2, 4, 3]]),
        "node_graph": np.array([0, 0, 0, 1, 1]),
        "y": np.arange(15).reshape(5, 3) % 2,
        "splits": {},
    }
    return NodeSet(**parts | changes)


def test_links_are_counted_once_and_without_loops():
    assert count(node_set()) == {"graphs": 2, "nodes": 5, "links": 3, "features": 2, "targets": 3}


def test_the_hash_is_of_values_not_of_memory_names_or_splits():
    first = node_set()
    other = node_set(
        name="other",
        x=np.asfortranarray(first.x),
        edge_index=first.edge_index.astype(">i4"),
        y=first.y.astype(np.uint8),
        splits={"fixed": NodeSplit(*np.eye(3, 2, dtype=bool))},
    )
    assert content_sha256(other) == content_sha256(first)


@pytest.mark.parametrize(
    "changes",
    [
        {"x": node_set().x + np.float32(1)},
        {"x": node_set().x.reshape(2, 5)},
        {"edge_index": node_set().edge_index[::-1]},
        {"node_graph": np.array([0, 0, 1, 1, 1])},
        {"y": 1 - node_set().y},
    ],
)
def test_any_change_of_content_or_shape_changes_the_hash(changes):
    assert content_sha256(node_set(**changes)) != content_sha256(node_set())
