"""Readers on small files made up here; test_datasets.py reads the real ones."""

import pickle

import numpy as np
import pytest
import scipy.sparse

from retable.data.containers import DataError
from retable.data.readers import READERS
from retable.data.readers.planetoid import planetoid


@pytest.fixture
def write(tmp_path, make_card, entry):
    """Write files and return the card that pins them."""

    def write(contents: dict[str, bytes], **fields):
        files = []
        for path, content in contents.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
            files.append(entry(path, content, url="https://example.org"))
        return make_card(*files, **fields)

    return write


def planetoid_files(**changes) -> dict[str, bytes]:
    """600 nodes, then the test nodes 600, 601 and 603; 602 is missing from the index, as in CiteSeer."""
    allx = scipy.sparse.csr_matrix(np.eye(600, 4, dtype=np.float32))
    tx = scipy.sparse.csr_matrix(np.array([[0, 0, 0, 3], [0, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float32))
    ally = np.zeros((600, 3), dtype=np.int32)
    ally[:, 1] = 1
    parts = {
        "x": allx[:2],
        "y": ally[:2],
        "tx": tx,
        "ty": np.eye(3, dtype=np.int32),
        "allx": allx,
        "ally": ally,
        "graph": {0: [1, 603, 603], 1: [0], 603: [0, 0, 603]},
        **changes,
    }
    files = {f"p/ind.small.{part}": pickle.dumps(value, 3) for part, value in parts.items() if part != "index"}
    files["p/ind.small.test.index"] = parts.get("index", b"603\n600\n601\n")
    return files


def test_planetoid_puts_test_rows_in_their_place(write, tmp_path):
    graph = planetoid(write(planetoid_files()), tmp_path)
    assert graph.x.shape == (604, 4)
    assert graph.x[600:].toarray()[:, 3].tolist() == [0, 1, 0, 3]
    assert graph.y[600:].tolist() == [1, 2, 0, 0]
    assert graph.edge_index.T.tolist() == [[0, 1], [0, 603], [0, 603], [1, 0], [603, 0], [603, 0], [603, 603]]
    assert graph.splits["public"].sizes == (2, 500, 3)
    assert graph.splits["public-rest"].sizes == (2, 500, 102)
    assert graph.splits["public-rest"].test[602]
    assert not graph.splits["public"].test[602]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"graph": {0: [604]}}, "an edge names node 604"),
        ({"index": b"603\n601\n602\n"}, "does not continue the 600 rows"),
        ({"index": b"600\n601\n"}, "does not continue"),
    ],
)
def test_planetoid_refuses_parts_that_do_not_fit(write, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        planetoid(write(planetoid_files(**changes)), tmp_path)


def test_planetoid_names_missing_parts(write, tmp_path):
    files = planetoid_files()
    del files["p/ind.small.graph"]
    with pytest.raises(DataError, match=r"lacks the Planetoid files \['graph'\]"):
        planetoid(write(files), tmp_path)


def geom_files(rows: str, edges: str = "0\t1\n1\t1\n2\t0\n") -> dict[str, bytes]:
    return {
        "g/out1_node_feature_label.txt": f"node_id\tfeature\tlabel\n{rows}".encode(),
        "g/out1_graph_edges.txt": f"node_id\tnode_id\n{edges}".encode(),
    }


@pytest.mark.parametrize(
    ("features", "rows"),
    [
        ("indicators", "2\t0,0,1\t4\n0\t1,0,1\t3\n1\t0,0,0\t0\n"),
        ("indices", "2\t2,2\t4\n0\t2,0\t3\n1\t1\t0\n"),
    ],
)
def test_geom_gcn_reads_both_ways_of_writing_features(write, tmp_path, features, rows):
    card = write(geom_files(rows), reader="geom_gcn", options={"features": features})
    graph = READERS["geom_gcn"](card, tmp_path)
    expected = [[1, 0, 1], [0, 0, 0] if features == "indicators" else [0, 1, 0], [0, 0, 1]]
    assert graph.x.toarray().tolist() == expected
    assert graph.y.tolist() == [3, 0, 4]
    assert graph.edge_index.tolist() == [[0, 1, 2], [1, 1, 0]]


@pytest.mark.parametrize(
    ("features", "rows", "edges", "message"),
    [
        ("indicators", "0\t0,2\t1\n", "0\t0\n", "something else than 0 and 1"),
        ("indicators", "0\t0,1\t1\n1\t0,1,0\t1\n", "0\t0\n", "unequal length"),
        ("indicators", "0\t0,1\t1\n2\t0,1\t1\n", "0\t0\n", "node numbers are not 0 to 1"),
        ("indicators", "0\t0,1\n", "0\t0\n", "does not hold node, features and label"),
        ("indicators", "0\t0,1\t1\n", "0\t1\n", "an edge names node 1, the data set has 1"),
        ("indices", "0\t-1\t1\n", "0\t0\n", "negative feature"),
    ],
)
def test_geom_gcn_refuses_what_it_does_not_understand(write, tmp_path, features, rows, edges, message):
    card = write(geom_files(rows, edges), reader="geom_gcn", options={"features": features})
    with pytest.raises(DataError, match=message):
        READERS["geom_gcn"](card, tmp_path)


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
