"""Sets in TUDataset's format with a number for each graph, in three folders."""

import numpy as np
import pytest

from retable.data.containers import DataError, content_sha256, count
from retable.data.readers.tu_targets import tu_targets

PART = {
    "A": "1, 2\n2, 1\n3, 2\n2, 3\n4, 5\n5, 4\n",
    "graph_indicator": "1\n1\n1\n2\n2\n",
    "graph_attributes": "0.5\n-1.25\n",
    "node_labels": "0\n5\n0\n2\n0\n",
    "edge_labels": "1\n1\n2\n2\n3\n3\n",
}


@pytest.fixture
def read(tmp_path, make_card, entry):
    def read(**changes: str | None):
        files = []
        for part in ("train", "val", "test"):
            for field, text in (PART | (changes if part == "val" else {})).items():
                if text is not None:
                    path = f"TUDataset/ZINC_{part}/ZINC_{part}_{field}.txt"
                    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / path).write_text(text)
                    files.append(entry(path, text.encode() or b"-", url="https://example.org"))
        return tu_targets(make_card(*files), tmp_path)

    return read


def test_parts_follow_each_other_and_the_directions_of_a_link_too(read):
    data = read(A="2, 1\n3, 2\n1, 2\n2, 3\n5, 4\n4, 5\n", edge_labels="1\n2\n1\n2\n3\n3\n")
    assert data.node_graph.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5]
    links = np.array([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
    np.testing.assert_array_equal(data.edge_index, np.concatenate([links, links + 5, links + 10], axis=1))
    assert data.edge_features[:, 0].tolist() == [1, 1, 2, 2, 3, 3] * 3
    assert data.node_features[:, 0].tolist() == [0, 5, 0, 2, 0] * 3
    assert data.y.tolist() == [[0.5], [-1.25]] * 3
    split = data.splits["fixed"]
    assert [np.flatnonzero(mask).tolist() for mask in (split.train, split.val, split.test)] == [[0, 1], [2, 3], [4, 5]]
    assert count(data)["targets"] == 1
    assert content_sha256(data) == content_sha256(read())


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("graph_indicator", "1\n1\n1\n3\n3\n", "not an ascending list of graphs"),
        ("graph_attributes", "0.5\n1\n2\n", "3 numbers for 2 graphs"),
        ("graph_attributes", "much\n1\n", "something else than float64 numbers"),
        ("node_labels", "0\n5\n", "needs a label from 0 on for each of 5 nodes"),
        ("edge_labels", "1\n1\n2\n2\n3\n", "for each of 6 lines"),
        ("edge_labels", "1\n1\n2\n2\n3\n4\n", "another label there"),
        ("A", "1, 2\n2, 1\n3, 2\n2, 3\n4, 5\n9, 4\n", "an edge leaves the 5 nodes"),
        ("A", "1, 2\n2, 1\n3, 2\n2, 3\n4, 5\n5, 3\n", "an edge joins two graphs"),
        ("A", "1, 2\n2, 1\n3, 2\n2, 3\n4, 5\n4, 5\n", "without its other direction"),
        ("A", "1, 2\n2\n", "an odd number of ends"),
    ],
)
def test_contents_that_do_not_fit_name_the_file(read, field, text, message):
    named = "A" if "direction" in message or "label there" in message else field
    with pytest.raises(DataError, match=rf"ZINC_val_{named}\.txt: .*{message}"):
        read(**{field: text})


def test_a_missing_file_is_named(read):
    with pytest.raises(DataError, match=r"lacks the TU files .'edge_labels'. of the part 'val'"):
        read(edge_labels=None)
