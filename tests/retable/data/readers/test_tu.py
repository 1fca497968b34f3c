import numpy as np
import pytest

from retable.data.containers import DataError
from retable.data.readers.splits import stratified_folds
from retable.data.readers.tu import tu

FILES = {
    "A": b"1, 2\n2, 1\n5, 4\n4, 5\n",
    "graph_indicator": b"1\n1\n1\n2\n2\n",
    "graph_labels": b"1\n-1\n",
    "node_labels": b"3\n5\n3\n4\n3\n",
    "node_attributes": b"0.5, 1\n1e-1, 2\n0, 3\n-2, 4\n0, 5\n",
}


@pytest.fixture
def read(tmp_path, make_card, entry):
    def read(**changes: bytes | None):
        parts = {part: content for part, content in {**FILES, **changes}.items() if content is not None}
        files = []
        for part, content in parts.items():
            path = f"TU/raw/SMALL_{part}.txt"
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
            files.append(entry(path, content or b"-", url="https://example.org"))
        return tu(make_card(*files, reader="tu"), tmp_path)

    return read


def test_numbers_from_one_become_places(read):
    graphs = read()
    assert graphs.edge_index.T.tolist() == [[0, 1], [1, 0], [4, 3], [3, 4]]
    assert graphs.node_graph.tolist() == [0, 0, 0, 1, 1]
    assert graphs.y.tolist() == [1, 0]
    assert graphs.node_labels.tolist() == [0, 2, 0, 1, 0]
    assert graphs.node_attributes.tolist() == np.float32([[0.5, 1], [0.1, 2], [0, 3], [-2, 4], [0, 5]]).tolist()


def test_sets_without_features_and_without_edges(read):
    graphs = read(node_labels=None, node_attributes=None, A=b"")
    assert graphs.node_labels is None
    assert graphs.node_attributes is None
    assert graphs.edge_index.shape == (2, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": None}, r"the card lacks the TU files \['A'\]"),
        ({"A": b"1, 2\n2\n"}, r"SMALL_A.txt: an odd number of ends \(3\)"),
        ({"A": b"1, 2\n2, 6\n6, 2\n"}, "SMALL_A.txt:2: an edge names node 6; the data set has 5, numbered from 1"),
        (
            {"A": b"0, 1\n1, 0\n3, 4\n4, 3\n"},
            "SMALL_A.txt:1: an edge names node 0; the data set has 5, numbered from 1",
        ),
        ({"A": b"1, 4\n"}, "SMALL_A.txt: an edge joins two graphs"),
        ({"A": b"1, 2\nx, 1\n"}, "SMALL_A.txt: holds something else than int64 numbers"),
        ({"A": b"1.5, 2\n"}, "SMALL_A.txt: holds something else than int64 numbers"),
        ({"graph_indicator": b"1\n2\n1\n2\n2\n"}, "not an ascending list of graphs 1 to 2"),
        ({"graph_indicator": b"1\n1\n1\n2\n3\n"}, "not an ascending list of graphs 1 to 2"),
        ({"node_labels": b"1\n2\n"}, "SMALL_node_labels.txt: 2 labels for 5 nodes"),
        ({"node_attributes": b"1\n2\n"}, "2 values do not make rows of equal length for 5 nodes"),
    ],
)
def test_parts_that_do_not_fit_are_one_line(read, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)


def test_folds_are_stratified_even_and_depend_on_names_alone():
    y = np.repeat([0, 1, 2], [63, 120, 5])
    folds = stratified_folds("a", "folds-10", y, 10)
    assert max(folds.sizes) - min(folds.sizes) <= 1
    for label in range(3):
        within = np.bincount(folds.number[y == label], minlength=10)
        assert within.max() - within.min() <= 1
    assert (stratified_folds("a", "folds-10", y, 10).number == folds.number).all()
    assert (stratified_folds("b", "folds-10", y, 10).number != folds.number).any()
