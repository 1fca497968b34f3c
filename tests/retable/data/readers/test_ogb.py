"""OGB's raw archives, written here in OGB's format and compared with what OGB's own parser makes of them."""

import gzip
import sys

import numpy as np
import pytest

from retable.data.containers import DataError, content_sha256, count
from retable.data.readers.ogb import ogb_graphs, ogb_nodes

NODES = {
    "arxiv/raw/edge": "0,1\n1,0\n3,2\n3,3\n",
    "arxiv/raw/node-feat": "0.5,-1.25\n0.0,2.0\n1e-3,0.0\n-0.058943,0.1\n",
    "arxiv/raw/node-label": "4\n0\n39\n4\n",
    "arxiv/raw/num-node-list": "4\n",
    "arxiv/raw/num-edge-list": "4\n",
    "arxiv/split/time/train": "3\n0\n",
    "arxiv/split/time/valid": "1\n",
    "arxiv/split/time/test": "2\n",
}
GRAPHS = {
    "hiv/raw/num-node-list": "3\n1\n2\n",
    "hiv/raw/num-edge-list": "2\n0\n1\n",
    "hiv/raw/edge": "0,1\n2,1\n1,0\n",
    "hiv/raw/edge-feat": "0,0,1\n3,0,0\n1,2,0\n",
    "hiv/raw/node-feat": "5,0\n6,1\n7,0\n5,1\n6,0\n5,0\n",
    "hiv/raw/graph-label": "0\n1\n0\n",
    "hiv/split/scaffold/train": "0\n",
    "hiv/split/scaffold/valid": "2\n",
    "hiv/split/scaffold/test": "1\n",
}


@pytest.fixture
def read(tmp_path, make_card, entry):
    def read(contents: dict[str, str], **changes: str | bytes | None):
        reader, split = (ogb_nodes, "time") if contents is NODES else (ogb_graphs, "scaffold")
        known = {path.rpartition("/")[2]: path for path in contents}
        texts = contents | {known[name.replace("_", "-")]: text for name, text in changes.items()}
        files = []
        for name, text in texts.items():
            if text is None:
                continue
            packed = gzip.compress(text.encode()) if isinstance(text, str) else text
            path = f"ogb/{name}.csv.gz"
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(packed)
            files.append(entry(path, packed or b"-", url="https://example.org"))
        return reader(make_card(*files, options={"split": split}), tmp_path)

    return read


@pytest.fixture
def parsed_by_ogb(tmp_path, monkeypatch):
    # Importing OGB asks a package index for its newest version if it finds this library.
    monkeypatch.setitem(sys.modules, "outdated", None)
    from ogb.io.read_graph_raw import read_csv_graph_raw

    return lambda folder, **options: read_csv_graph_raw(str(tmp_path / "ogb" / folder / "raw"), **options)


def test_a_graph_of_nodes_is_what_ogb_reads(read, parsed_by_ogb):
    graph = read(NODES)
    (theirs,) = parsed_by_ogb("arxiv")
    assert np.array_equal(graph.x.toarray(), theirs["node_feat"])
    assert np.array_equal(graph.edge_index, theirs["edge_index"])
    assert graph.y.tolist() == [4, 0, 39, 4]
    split = graph.splits["time"]
    assert [np.flatnonzero(mask).tolist() for mask in (split.train, split.val, split.test)] == [[0, 3], [1], [2]]


def test_molecules_are_what_ogb_reads_with_nodes_that_count_through(read, parsed_by_ogb):
    graphs = read(GRAPHS)
    theirs = parsed_by_ogb("hiv", add_inverse_edge=True)
    first = 0
    for number, molecule in enumerate(theirs):
        nodes = np.flatnonzero(graphs.node_graph == number)
        assert nodes.tolist() == list(range(first, first + molecule["num_nodes"]))
        mine = np.isin(graphs.edge_index[0], nodes)
        assert np.array_equal(graphs.edge_index[:, mine] - first, molecule["edge_index"])
        assert np.array_equal(graphs.edge_features[mine], molecule["edge_feat"])
        assert np.array_equal(graphs.node_features[nodes], molecule["node_feat"])
        first += molecule["num_nodes"]
    assert graphs.y.tolist() == [0, 1, 0]
    split = graphs.splits["scaffold"]
    assert [np.flatnonzero(mask).tolist() for mask in (split.train, split.val, split.test)] == [[0], [2], [1]]
    assert count(graphs) == {
        "graphs": 3, "nodes": 6, "links": 3, "node_features": 2, "edge_features": 3, "classes": 2,
    }  # fmt: skip


def test_the_hash_of_molecules_covers_every_array(read):
    hashes = [content_sha256(read(GRAPHS))]
    hashes.append(content_sha256(read(GRAPHS, graph_label="1\n1\n0\n")))
    hashes.append(content_sha256(read(GRAPHS, edge_feat="0,0,1\n3,0,0\n1,2,1\n")))
    hashes.append(content_sha256(read(GRAPHS, node_feat="5,0\n6,1\n7,0\n5,1\n6,0\n5,1\n")))
    hashes.append(content_sha256(read(GRAPHS, edge="0,1\n1,2\n1,0\n")))
    assert len(set(hashes)) == 5


BAD_NODES = [
    ({"edge": None}, "the card lists no file that ends in raw/edge.csv.gz"),
    ({"edge": b"no gzip"}, "edge.csv.gz is no readable gzip file"),
    ({"edge": gzip.compress(b"0,1\n1,0\n")[:-9]}, "edge.csv.gz is no readable gzip file"),
    ({"edge": "0,4\n"}, "edge.csv.gz: an edge leaves the 4 nodes"),
    ({"edge": "0,1,2\n"}, "edge.csv.gz: each line is `source,target`"),
    ({"edge": "source,target\n0,1\n"}, "edge.csv.gz is no table of int64 numbers"),
    ({"node_feat": "1,2\n3\n"}, "node-feat.csv.gz is no table of float32 numbers"),
    ({"node_label": "1\n2\n"}, r"node-label.csv.gz: \(2, 1\) values for 4 nodes"),
    ({"train": "4\n"}, "train.csv.gz: a place outside of 0 to 3"),
    ({"train": "-1\n"}, "train.csv.gz: a place outside of 0 to 3"),
    ({"test": "3\n"}, "test.csv.gz: a place that is listed twice"),
    ({"train": "0\n0\n"}, "train.csv.gz: a place that is listed twice"),
]
BAD_GRAPHS = [
    ({"edge": "0,1\n3,1\n1,0\n"}, "edge.csv.gz: an edge leaves the nodes of its graph"),
    ({"edge": "0,1\n"}, r"edge.csv.gz: \(1, 2\) ends for 3 edges"),
    ({"edge_feat": "0,0,1\n"}, "edge-feat.csv.gz: another number of rows than edges"),
    ({"node_feat": "5,0\n"}, "node-feat.csv.gz: 1 rows for 6 nodes"),
    ({"num_edge_list": "2\n1\n"}, "num-edge-list.csv.gz: 2 counts for 3 graphs"),
    ({"graph_label": "0\n"}, r"graph-label.csv.gz: \(1, 1\) values for 3 graphs"),
]


@pytest.mark.parametrize(
    ("contents", "changes", "message"), [(NODES, *bad) for bad in BAD_NODES] + [(GRAPHS, *bad) for bad in BAD_GRAPHS]
)
def test_a_bad_file_is_named_in_one_line(read, contents, changes, message):
    with pytest.raises(DataError, match=message) as error:
        read(contents, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,1\n1,\n,0\n", [[0, 1], [1, np.nan], [np.nan, 0]]),
        ("0,1,,\r\n1,,0,1\r\n,,,\r\n", [[0, 1, np.nan, np.nan], [1, np.nan, 0, 1], [np.nan] * 4]),
        ("0.5\n1\n-2\n", [[0.5], [1], [-2]]),
        ("1\n\n0\n", [[1], [np.nan], [0]]),
        ("1\n0\n\n", [[1], [0], [np.nan]]),
    ],
)
def test_several_labels_and_missing_ones_make_a_table(read, text, expected):
    y = read(GRAPHS, graph_label=text).y
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, np.float32(expected))
