"""Geom-GCN's reader on small files made up here, and line by line on the real ones."""

from pathlib import Path

import pytest

from retable.cards import load_dataset
from retable.data.containers import DataError
from retable.data.readers import READERS


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
        ("indicators", "0\t0,1\t1\n", "0\t1\n", "edge 1 names node 1; the data set has 1, numbered from 0"),
        ("indices", "0\t-1\t1\n", "0\t0\n", "negative feature"),
    ],
)
def test_geom_gcn_refuses_what_it_does_not_understand(write, tmp_path, features, rows, edges, message):
    card = write(geom_files(rows, edges), reader="geom_gcn", options={"features": features})
    with pytest.raises(DataError, match=message):
        READERS["geom_gcn"](card, tmp_path)


def test_the_order_of_the_lines_does_not_matter(write, tmp_path):
    rows = {"indicators": ["0,1,0", "1,1,0", "0,0,1", "1,0,0"], "indices": ["1", "0,1", "2", "0"]}
    for features, texts in rows.items():
        lines = [f"{node}\t{text}\t{node % 3}\n" for node, text in enumerate(texts)]
        graphs = []
        for order in ([0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]):
            files = geom_files("".join(lines[place] for place in order))
            card = write(files, reader="geom_gcn", options={"features": features})
            graphs.append(READERS["geom_gcn"](card, tmp_path))
        for graph in graphs:
            assert graph.x.toarray().tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]]
            assert graph.y.tolist() == [0, 1, 2, 0]


@pytest.mark.mirror
@pytest.mark.parametrize(("name", "folder"), [("texas", "texas"), ("actor", "film")])
def test_the_real_files_are_what_a_loop_over_their_lines_gives(name, folder, root, mirror):
    place = Path(mirror) / "geom-gcn" / "new_data" / folder
    graph = READERS["geom_gcn"](load_dataset(root / "datasets" / f"{name}.yaml"), Path(mirror))
    for line in (place / "out1_node_feature_label.txt").read_text().splitlines()[1:]:
        node, features, label = line.split("\t")
        values = features.split(",")
        written = {column for column, value in enumerate(values) if value == "1"}
        present = written if name == "texas" else {int(value) for value in values}
        row = graph.x.indices[graph.x.indptr[int(node)] : graph.x.indptr[int(node) + 1]]
        assert set(row.tolist()) == present, node
        assert graph.y[int(node)] == int(label), node
    edges = [line.split("\t") for line in (place / "out1_graph_edges.txt").read_text().splitlines()[1:]]
    assert graph.edge_index.T.tolist() == [[int(source), int(target)] for source, target in edges]
    assert list(graph.splits) == [f"geom-{number}" for number in range(10)]
