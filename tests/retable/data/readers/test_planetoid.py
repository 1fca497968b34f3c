"""Planetoid's reader on small files made up here; test_datasets.py reads the real ones."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from retable.cards import load_dataset
from retable.data.containers import DataError
from retable.data.readers.planetoid import planetoid


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


@pytest.mark.mirror
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_the_real_citeseer_is_what_a_loop_over_its_files_gives(root, mirror):
    folder = Path(mirror) / "planetoid" / "data"
    allx, tx, ally, ty, y, lists = (
        pickle.loads((folder / f"ind.citeseer.{part}").read_bytes(), encoding="latin1")
        for part in ("allx", "tx", "ally", "ty", "y", "graph")
    )
    listed = [int(line) for line in (folder / "ind.citeseer.test.index").read_text().split()]
    known, unknown = allx.toarray(), tx.toarray()
    row_of = {node: unknown[place] for place, node in enumerate(listed)}
    class_of = {node: int(ty[place].argmax()) for place, node in enumerate(listed)}
    graph = planetoid(load_dataset(root / "datasets" / "citeseer.yaml"), Path(mirror))
    x = graph.x.toarray()
    for node in range(3327):
        row = known[node] if node < len(known) else row_of.get(node, np.zeros(3703))
        assert (x[node] == row).all(), node
        assert graph.y[node] == (ally[node].argmax() if node < len(ally) else class_of.get(node, 0)), node
    assert graph.edge_index.T.tolist() == [[node, other] for node, others in lists.items() for other in others]
    tested, rest = graph.splits["public"].test, graph.splits["public-rest"].test
    assert sorted(np.flatnonzero(tested)) == sorted(listed)
    assert np.flatnonzero(rest).tolist() == list(range(len(y) + 500, 3327))


def test_planetoid_loads_nothing_but_arrays_and_lists(write, tmp_path):
    files = planetoid_files()
    files["p/ind.small.graph"] = pickle.dumps(print, 3)
    with pytest.raises(DataError, match=r"ind\.small\.graph"):
        planetoid(write(files), tmp_path)
