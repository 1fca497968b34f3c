"""Readers of npz archives on small ones made up here; test_datasets.py reads the real ones."""

import numpy as np
import pytest
import scipy.sparse

from retable.data.readers import READERS


def test_objects_in_an_npz_are_never_loaded(write, tmp_path):
    identity = scipy.sparse.eye(3, format="csr", dtype=np.float32)
    parts = {
        "data": identity.data,
        "indices": identity.indices,
        "indptr": identity.indptr,
        "shape": np.array([3, 3]),
    }
    arrays = {f"{kind}_{key}": value for kind in ("attr", "adj") for key, value in parts.items()}
    arrays["labels"] = np.array([0, 1, 1])
    np.savez(tmp_path / "good.npz", class_names=np.array([{}], dtype=object), **arrays)
    card = write({"good.npz": (tmp_path / "good.npz").read_bytes()}, reader="gnn_benchmark")
    graph = READERS["gnn_benchmark"](card, tmp_path)
    assert graph.edge_index.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert list(graph.splits) == [f"random-{number}" for number in range(5)]

    arrays["labels"] = np.array([0, 1, None], dtype=object)
    np.savez(tmp_path / "bad.npz", **arrays)
    card = write({"bad.npz": (tmp_path / "bad.npz").read_bytes()}, reader="gnn_benchmark")
    with pytest.raises(ValueError, match="allow_pickle=False"):
        READERS["gnn_benchmark"](card, tmp_path)


def test_filtered_graphs_bring_their_folds(write, tmp_path):
    masks = np.eye(10, 30, dtype=bool)
    arrays = {
        "node_features": np.ones((30, 2), np.float32),
        "node_labels": np.zeros(30, np.int64),
        "edges": np.array([[0, 1], [1, 2]]),
        "train_masks": masks,
        "val_masks": np.roll(masks, 10, axis=1),
        "test_masks": np.roll(masks, 20, axis=1),
    }
    np.savez(tmp_path / "f.npz", **arrays)
    card = write({"f.npz": (tmp_path / "f.npz").read_bytes()}, reader="heterophilous")
    graph = READERS["heterophilous"](card, tmp_path)
    assert list(graph.splits) == [f"fold-{number}" for number in range(10)]
    assert [int(np.flatnonzero(mask)[0]) for mask in (graph.splits["fold-3"].train, graph.splits["fold-3"].test)] == [
        3,
        23,
    ]
    assert graph.edge_index.tolist() == [[0, 1], [1, 2]]


@pytest.fixture
def benchmark(write, tmp_path):
    """Reads an archive in the form of Shchur et al. of a dense adjacency and dense features."""

    def read(adjacency, features, labels, **changes):
        arrays = {"labels": np.asarray(labels)}
        for part, dense in (("adj", adjacency), ("attr", features)):
            csr = scipy.sparse.csr_matrix(np.asarray(dense, dtype=np.float32))
            arrays |= {f"{part}_{key}": getattr(csr, key) for key in ("data", "indices", "indptr", "shape")}
        np.savez(tmp_path / "b.npz", **arrays | changes)
        card = write({"b.npz": (tmp_path / "b.npz").read_bytes()}, reader="gnn_benchmark")
        return READERS["gnn_benchmark"](card, tmp_path)

    return read


def test_edges_are_the_entries_row_by_row_and_features_as_stored(benchmark):
    random = np.random.default_rng(0)
    adjacency, features = random.integers(0, 2, (7, 7)), random.integers(0, 4, (7, 3))
    graph = benchmark(adjacency, features, np.arange(7) % 2)
    entries = [[row, column] for row in range(7) for column in range(7) if adjacency[row, column]]
    assert graph.edge_index.T.tolist() == entries
    assert graph.x.toarray().tolist() == features.tolist()
    assert graph.y.tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_random_splits_are_of_ten_ten_and_eighty_percent_and_follow_from_their_names(benchmark):
    nodes = 50
    empty, first = np.zeros((nodes, nodes)), np.ones((nodes, 1))
    graph = benchmark(empty, first, np.zeros(nodes, int))
    other = benchmark(np.eye(nodes), 2 * first, np.arange(nodes))
    for name, split in graph.splits.items():
        assert split.sizes == (5, 5, 40)
        assert (split.train.astype(int) + split.val + split.test == 1).all()
        assert (split.train == other.splits[name].train).all()
    assert len({split.train.tobytes() for split in graph.splits.values()}) == 5


def test_an_index_outside_of_the_matrix_is_refused(benchmark):
    with pytest.raises(ValueError, match="indices must be < 3"):
        benchmark(np.eye(3), np.eye(3), [0, 1, 2], adj_indices=np.array([0, 1, 3]))
