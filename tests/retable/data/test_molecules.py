"""What is counted of a set of molecules, and what its hash covers."""

import hashlib
import struct

import numpy as np
import pytest

from retable.data.containers import NodeSplit, content_sha256, count
from retable.data.molecules import MoleculeSet


def molecules(**changes) -> MoleculeSet:
    """A chain of three atoms, a pair, and an atom alone: three bonds, each in both directions."""
    parts = {
        "name": "small",
        "edge_index": np.array([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]]),
        "edge_features": np.array([[0, 1], [0, 1], [2, 0], [2, 0], [1, 1], [1, 1]]),
        "node_features": np.arange(18).reshape(6, 3),
        "node_graph": np.array([0, 0, 0, 1, 1, 2]),
        "y": np.array([0, 1, 1]),
        "splits": {},
    }
    return MoleculeSet(**parts | changes)


def test_bonds_are_counted_once_and_atoms_without_a_bond_too():
    assert count(molecules()) == {
        "graphs": 3, "nodes": 6, "links": 3, "node_features": 3, "edge_features": 2, "classes": 2
    }  # fmt: skip
    assert count(molecules(y=np.zeros(3, int)))["classes"] == 1
    assert "classes" not in count(molecules(y=np.zeros((3, 2), np.float32)))
    assert count(molecules(y=np.zeros((3, 2), np.float32)))["targets"] == 2


def test_the_hash_is_of_values_not_of_memory_names_or_splits():
    first = molecules()
    other = molecules(
        name="other",
        edge_index=np.asfortranarray(first.edge_index.astype(">i2")),
        node_features=np.repeat(first.node_features, 2, axis=0)[::2],
        y=first.y.astype(np.uint8),
        splits={"scaffold": NodeSplit(*np.eye(3, dtype=bool))},
    )
    assert content_sha256(other) == content_sha256(first)


@pytest.mark.parametrize(
    "changes",
    [
        {"edge_index": molecules().edge_index[::-1]},
        {"edge_features": molecules().edge_features[::-1]},
        {"edge_features": molecules().edge_features.reshape(4, 3)},
        {"node_features": molecules().node_features + (np.arange(18).reshape(6, 3) == 17)},
        {"node_graph": np.array([0, 0, 0, 1, 2, 2])},
        {"y": np.array([1, 0, 1])},
        {"y": np.float32([[0], [1], [1]])},
    ],
)
def test_any_change_of_content_or_shape_changes_the_hash(changes):
    assert content_sha256(molecules(**changes)) != content_sha256(molecules())


def test_the_hash_is_of_name_type_shape_and_values_of_each_array_in_turn():
    written = b""
    for name in ("edge_index", "edge_features", "node_features", "node_graph", "y"):
        values = getattr(molecules(), name)
        written += f"{name} <i8 {values.shape}\n".encode()
        written += b"".join(struct.pack("<q", value) for value in values.flatten().tolist())
    assert content_sha256(molecules()) == hashlib.sha256(written).hexdigest()
