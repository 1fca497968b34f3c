"""GraphSAGE's files of several graphs, written here, and compared with what torch-geometric makes of them."""

import io
import json
import zipfile

import numpy as np
import pytest

from retable.cards import load_dataset, load_unpinned
from retable.data.adopt import write_card
from retable.data.containers import DataError, count
from retable.data.fetch import fetch
from retable.data.load import load
from retable.data.readers.ppi import ppi

PARTS = ("train", "valid", "test")


def contents(part: str) -> dict[str, object]:
    rng = np.random.default_rng(PARTS.index(part))
    links = [(0, 1), (1, 0), (2, 2), (3, 4), (4, 3), (1, 2), (2, 1)]
    nodes = [{"id": node} for node in range(5)]
    graph = {"directed": True, "graph": {}, "multigraph": False, "nodes": nodes}
    graph["links"] = [{"source": a, "target": b} for a, b in links]
    return {
        "graph.json": graph,
        "graph_id.npy": np.array([3, 3, 3, 4, 4]),
        "feats.npy": rng.normal(size=(5, 2)),
        "labels.npy": rng.integers(0, 2, (5, 3)),
    }


def packed(content: object) -> bytes:
    if isinstance(content, np.ndarray):
        stream = io.BytesIO()
        np.save(stream, content)
        return stream.getvalue()
    return content if isinstance(content, bytes) else json.dumps(content).encode()


@pytest.fixture
def read(tmp_path, make_card, entry):
    def read(**changes: object):
        files = []
        for part in PARTS:
            for name, content in contents(part).items():
                if part == "valid":
                    content = changes.get(name.partition(".")[0], content)
                if content is not None:
                    path = tmp_path / "ppi" / f"{part}_{name}"
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(packed(content))
                    files.append(entry(f"ppi/{part}_{name}", packed(content) or b"-", url="https://example.org"))
        return ppi(make_card(*files), tmp_path)

    return read


def test_parts_and_graphs_follow_each_other(read):
    data = read()
    assert data.node_graph.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5]
    assert data.edge_index[:, 7:10].tolist() == [[5, 6, 7], [6, 5, 7]]
    split = data.splits["fixed"]
    assert [np.flatnonzero(mask).tolist() for mask in (split.train, split.val, split.test)] == [[0, 1], [2, 3], [4, 5]]
    assert count(data) == {"graphs": 6, "nodes": 15, "links": 9, "features": 2, "targets": 3}


def test_it_is_what_torch_geometric_reads(read, tmp_path):
    from torch_geometric.datasets import PPI

    ours = read()
    raw = tmp_path / "pyg" / "raw"
    raw.mkdir(parents=True)
    for file in (tmp_path / "ppi").iterdir():
        (raw / file.name).write_bytes(file.read_bytes())
    graph = 0
    for part in ("train", "val", "test"):
        for theirs in PPI(str(raw.parent), split=part):
            nodes = np.flatnonzero(ours.node_graph == graph)
            np.testing.assert_array_equal(ours.x[nodes], theirs.x.numpy())
            np.testing.assert_array_equal(ours.y[nodes], theirs.y.numpy())
            edges = ours.edge_index[:, ours.node_graph[ours.edge_index[0]] == graph] - nodes[0]
            mine = {tuple(edge) for edge in edges.T.tolist() if edge[0] != edge[1]}
            assert mine == {tuple(edge) for edge in theirs.edge_index.T.tolist()}
            graph += 1
    assert graph == 6


def test_an_archive_is_adopted(root, tmp_path):
    (tmp_path / "datasets").mkdir()
    mine = tmp_path / "mirror" / "ppi" / "ppi.zip"
    mine.parent.mkdir(parents=True)
    with zipfile.ZipFile(mine, "w") as archive:
        for part in PARTS:
            for name, content in contents(part).items():
                archive.writestr(f"{part}_{name}", packed(content))
    card = load_dataset(write_card(load_unpinned(root, "ppi"), mine, tmp_path))
    fetch(card, tmp_path / "raw", str(tmp_path / "mirror"))
    assert load(card, "fixed", tmp_path / "raw")[1].sizes == (2, 2, 2)


LINKS = {"links": [{"source": 0, "target": 9}]}


@pytest.mark.parametrize(
    ("field", "content", "message"),
    [
        ("graph", b"{", "no node-link graph"),
        ("graph", {"edges": []}, "no node-link graph"),
        ("graph", LINKS, "edge 1 leaves the 5 nodes"),
        ("graph", {"links": [{"source": 0, "target": 4}]}, "an edge joins two graphs"),
        ("graph_id", np.array([0, 0, 2, 2, 2]), "not an ascending list of graphs"),
        ("graph_id", np.zeros(5), "not an ascending list of graphs"),
        ("feats", np.zeros((4, 2)), r"\(4, 2\) values for 5 nodes"),
        ("labels", np.full((5, 3), 2), "a label other than 0 and 1"),
        ("labels", np.array([None, 1], dtype=object), "no array of numbers"),
    ],
)
def test_contents_that_do_not_fit_name_the_file(read, field, content, message):
    with pytest.raises(DataError, match=rf"valid_{field}\.\w+: .*{message}"):
        read(**{field: content})


def test_a_missing_file_is_named(read):
    with pytest.raises(DataError, match=r"lacks the files \['valid_feats\.npy'\]"):
        read(feats=None)
