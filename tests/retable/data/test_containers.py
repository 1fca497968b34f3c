import numpy as np
import pytest
import scipy.sparse

from retable.data.containers import (
    NodeGraph,
    NodeSplit,
    canonical_csr,
    content_sha256,
    count,
    split_sha256,
)


def graph(**changes):
    parts = {
        "name": "small",
        "x": scipy.sparse.csr_matrix(np.array([[0, 1.5], [2, 0], [0, 0]], dtype=np.float32)),
        "edge_index": np.array([[0, 1, 1, 2, 0], [1, 0, 1, 1, 1]]),
        "y": np.array([0, 1, 1]),
        "splits": {},
    }
    return NodeGraph(**{**parts, **changes})


def split(**changes):
    parts = {name: np.arange(6) % 3 == number for number, name in enumerate(("train", "val", "test"))}
    return NodeSplit(**{**parts, **changes})


def test_the_hash_is_of_values_not_of_memory():
    first = graph()
    x = scipy.sparse.csr_matrix(
        (np.array([1, 0.5, 0, 2]), np.array([1, 1, 0, 0], dtype=np.int64), np.array([0, 2, 4, 4])),
        shape=(3, 2),
    )
    other = graph(
        name="other",
        x=x,
        edge_index=np.asfortranarray(first.edge_index.astype(">i4")),
        y=np.repeat(first.y, 2)[::2].astype(np.int8),
    )
    assert content_sha256(other) == content_sha256(first)
    assert split_sha256(split(val=np.repeat(split().val, 2)[::2])) == split_sha256(split())


@pytest.mark.parametrize(
    "changes",
    [
        {"x": scipy.sparse.csr_matrix((3, 2), dtype=np.float32)},
        {"x": scipy.sparse.csr_matrix(np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 0]], dtype=np.float32))},
        {"edge_index": graph().edge_index[:, ::-1]},
        {"edge_index": graph().edge_index[:, :-1]},
        {"edge_index": graph().edge_index[::-1]},
        {"y": np.array([0, 1, 0])},
    ],
)
def test_any_change_of_content_changes_the_hash(changes):
    assert content_sha256(graph(**changes)) != content_sha256(graph())


def test_masks_cannot_swap_roles():
    swapped = split(train=split().val, val=split().train)
    assert split_sha256(swapped) != split_sha256(split())
    assert split().sizes == (2, 2, 2)


def test_hashes_stay_what_they_are():
    assert content_sha256(graph()) == "43ab78df604687dbbf180ad5922531c84a7073c3ece4e2fa8dce0d68a81344fb"
    assert split_sha256(split()) == "864a80412adfcd25ae53a6578a08e7787062f6c0274801762b28070882c9c75c"


def test_counts_are_of_links_without_loops_and_repetitions():
    assert count(graph()) == {"nodes": 3, "links": 2, "features": 2, "classes": 2}


def test_a_canonical_matrix_is_a_copy():
    matrix = scipy.sparse.csr_matrix(np.eye(2, dtype=np.float32))
    canonical_csr(matrix).data[:] = 7
    assert matrix.data.tolist() == [1, 1]
