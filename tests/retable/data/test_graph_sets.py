"""Every card of a set of graphs: as text, and, where a mirror is at hand, on the real files."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from retable.cards import load_datasets
from retable.data.containers import content_sha256, count, split_sha256
from retable.data.fetch import check, fetch
from retable.data.graph_sets import Folds, GraphSet, node_features, simple_edges
from retable.data.load import compare, load, parse
from retable.data.readers import READERS

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
CARDS = {name: card for name, card in load_datasets(ROOT).items() if card.task == "graph_classification"}
DOWNLOADED = sorted(name for name, card in CARDS.items() if not card.embedded)

# Published graphs, classes and one-hot node labels (columns); nodes; entries of the edge list; graphs by class.
KNOWN = {
    "dd": (1178, 2, 89, 334925, 1686092, (691, 487)),
    "imdb-binary": (1000, 2, None, 19773, 4 * 96531, (500, 500)),
    "imdb-multi": (1500, 3, None, 19502, 4 * 98903, (500, 500, 500)),
    "mutag": (188, 2, 7, 3371, 7442, (63, 125)),
    "nci1": (4110, 2, 37, 122747, 265506, (2053, 2057)),
    "proteins": (1113, 2, 3, 43471, 162088, (663, 450)),
    "ptc-mr": (344, 2, 18, 4915, 10108, (192, 152)),
    "reddit-binary": (2000, 2, None, 859254, 4 * 995508, (1000, 1000)),
}


@pytest.fixture(scope="module")
def sets(mirror: str, tmp_path_factory: pytest.TempPathFactory):
    """Reads a data set through the whole path, once: mirror, hashes, reader."""
    raw = tmp_path_factory.mktemp("raw")
    read: dict[str, tuple[GraphSet, list[str]]] = {}

    def get(name: str) -> tuple[GraphSet, list[str]]:
        if name not in read:
            fetch(CARDS[name], raw, mirror=mirror)
            problems = check(CARDS[name], raw)
            graphs = parse(CARDS[name], raw)
            read[name] = graphs, problems + compare(CARDS[name], graphs, list(CARDS[name].splits))
        return read[name]

    return get


@pytest.mark.parametrize("name", sorted(CARDS))
def test_a_card_says_all_that_a_reader_of_tables_needs(name):
    card = CARDS[name]
    assert card.reader in READERS
    assert set(card.counts) == {"graphs", "nodes", "links", "node_labels", "node_attributes", "classes"}
    assert all(split.note for split in card.splits.values())
    assert all(file.archive and file.archive.url.startswith("https://") for file in card.files)
    assert all(file.archive.sha256 is None for file in card.files)  # what is parsed is pinned: the members
    assert len({file.path for file in card.files}) == len(card.files)


def test_every_downloaded_data_set_has_known_counts():
    assert sorted(KNOWN) == DOWNLOADED


@pytest.mark.mirror
@pytest.mark.parametrize("name", DOWNLOADED)
def test_real_files_give_what_card_and_literature_say(name, sets):
    graphs, problems = sets(name)
    number, classes, labels, nodes, entries, by_class = KNOWN[name]
    assert problems == []
    assert count(graphs) == CARDS[name].counts
    assert (len(graphs.y), len(np.unique(graphs.y)), len(graphs.node_graph)) == (number, classes, nodes)
    assert tuple(np.bincount(graphs.y)) == by_class
    features = node_features(graphs, attributes=False)
    assert (None if features is None else features.shape) == (None if labels is None else (nodes, labels))
    assert graphs.edge_index.shape == (2, entries)
    assert (graphs.node_graph[graphs.edge_index[0]] == graphs.node_graph[graphs.edge_index[1]]).all()


@pytest.mark.mirror
@pytest.mark.parametrize("name", ["mutag", "proteins", "imdb-binary"])
def test_equals_torch_geometric(name, sets, tmp_path):
    """Nodes, features, edges without duplicates and loops, and classes of every graph."""
    io = pytest.importorskip("torch_geometric.io")
    graphs, _ = sets(name)
    title = CARDS[name].title
    raw = next(path for path in tmp_path.parent.glob("raw*") if (path / CARDS[name].files[0].path).exists())
    shutil.copytree((raw / CARDS[name].files[0].path).parent, tmp_path / "raw")
    data, _, _ = io.read_tu_data(str(tmp_path / "raw"), title)
    np.testing.assert_array_equal(graphs.y, data.y.numpy())
    # torch-geometric numbers the nodes of each graph from 0.
    first = np.concatenate([[0], np.bincount(graphs.node_graph).cumsum()[:-1]])
    edges = simple_edges(graphs)
    local = edges - first[graphs.node_graph[edges[0]]]
    np.testing.assert_array_equal(local, data.edge_index.numpy())
    if (features := node_features(graphs, attributes=True)) is not None:
        np.testing.assert_array_equal(features, data.x.numpy())


def test_digit_graphs_are_pinned_simple_and_undirected():
    graphs, folds = load(CARDS["digits-grid"], "folds-10", Path("unused"))
    edges = {tuple(edge) for edge in graphs.edge_index.T.tolist()}
    assert len(edges) == graphs.edge_index.shape[1]
    assert all((b, a) in edges and a != b for a, b in edges)
    assert (graphs.node_graph[graphs.edge_index[0]] == graphs.node_graph[graphs.edge_index[1]]).all()
    assert np.bincount(graphs.edge_index[1]).max() == 4
    assert graphs.node_attributes.min() > 0
    assert graphs.node_attributes.max() == 1
    assert folds.sizes == (50,) * 10


def small(**changes) -> GraphSet:
    fields = {
        "name": "small",
        "edge_index": np.array([[0, 1, 1, 3], [1, 0, 0, 3]]),
        "node_graph": np.array([0, 0, 1, 2]),
        "y": np.array([0, 1, 0]),
        "node_labels": np.array([0, 2, 2, 0]),
        "node_attributes": np.array([[0.5], [1], [2], [3]], dtype=np.float32),
        "splits": {},
    }
    return GraphSet(**fields | changes)


def test_counts_and_edges_leave_out_loops_and_duplicates():
    assert count(small()) == {
        "graphs": 3,
        "nodes": 4,
        "links": 1,
        "node_labels": 2,
        "node_attributes": 1,
        "classes": 2,
    }
    assert simple_edges(small()).tolist() == [[0, 1], [1, 0]]


def test_features_are_attributes_then_one_hot_labels():
    assert node_features(small(), attributes=True).tolist()[1] == [1, 0, 0, 1]
    assert node_features(small(), attributes=False).tolist()[1] == [0, 0, 1]
    assert node_features(small(node_labels=None), attributes=False) is None
    assert node_features(small(node_labels=None), attributes=True).shape == (4, 1)


@pytest.mark.parametrize("field", ["edge_index", "node_graph", "y", "node_labels", "node_attributes"])
def test_the_content_hash_covers_every_array_and_no_layout(field):
    graphs = small()
    array = getattr(graphs, field)
    changed = array.copy()
    changed.flat[-1] += 1
    assert content_sha256(dataclasses.replace(graphs, **{field: changed})) != content_sha256(graphs)
    same = np.asfortranarray(array.astype(array.dtype.newbyteorder()))
    assert content_sha256(dataclasses.replace(graphs, **{field: same})) == content_sha256(graphs)
    assert split_sha256(Folds(np.array([0, 1]))) != split_sha256(Folds(np.array([1, 0])))
