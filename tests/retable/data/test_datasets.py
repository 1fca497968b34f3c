"""Cards of node data sets (sets of graphs: test_graph_sets.py): as text, and, with a mirror, on the real files."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from retable.cards import DatasetCard, load_datasets
from retable.data.containers import NodeGraph, count
from retable.data.edges import distinct_edges
from retable.data.fetch import check, fetch
from retable.data.load import compare, parse
from retable.data.readers import READERS

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
CARDS = load_datasets(ROOT)
NAMES = sorted(name for name, card in CARDS.items() if card.task == "node_classification")
DOWNLOADED = [name for name in NAMES if not CARDS[name].embedded]

# Published nodes, undirected links, features and classes; entries of the edge list; the first split.
KNOWN = {
    "actor": (7600, 26659, 932, 5, 33391, (3648, 2432, 1520)),
    "amazon-computers": (13752, 245861, 767, 10, 287209, (1375, 1375, 11002)),
    "amazon-photo": (7650, 119081, 745, 8, 143663, (765, 765, 6120)),
    "chameleon": (2277, 31371, 2325, 5, 36101, (1092, 729, 456)),
    "chameleon-filtered": (890, 8854, 2325, 5, 8854, (409, 287, 194)),
    "citeseer": (3327, 4552, 3703, 6, 9464, (120, 500, 1000)),
    "coauthor-cs": (18333, 81894, 6805, 15, 163788, (1833, 1833, 14667)),
    "coauthor-physics": (34493, 247962, 8415, 5, 495924, (3449, 3449, 27595)),
    "cora": (2708, 5278, 1433, 7, 10858, (140, 500, 1000)),
    "cornell": (183, 277, 1703, 5, 298, (87, 59, 37)),
    "pubmed": (19717, 44324, 500, 3, 88676, (60, 500, 1000)),
    "squirrel": (5201, 198353, 2089, 5, 217073, (2496, 1664, 1041)),
    "squirrel-filtered": (2223, 46998, 2089, 5, 46998, (1053, 718, 452)),
    "texas": (183, 279, 1703, 5, 325, (87, 59, 37)),
    "wisconsin": (251, 450, 1703, 5, 515, (120, 80, 51)),
}
NODES_OUTSIDE_SOME_SPLIT = {"cora", "citeseer"}


@pytest.fixture(scope="module")
def graphs(mirror: str, tmp_path_factory: pytest.TempPathFactory):
    """Reads a data set through the whole path, once: mirror, hashes, reader."""
    raw = tmp_path_factory.mktemp("raw")
    read: dict[str, tuple[NodeGraph, list[str]]] = {}

    def get(name: str) -> tuple[NodeGraph, list[str]]:
        if name not in read:
            fetch(CARDS[name], raw, mirror=mirror)
            problems = check(CARDS[name], raw)
            graph = parse(CARDS[name], raw)
            read[name] = graph, problems + compare(CARDS[name], graph, list(CARDS[name].splits))
        return read[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_all_that_a_reader_of_tables_needs(name):
    card = CARDS[name]
    assert card.reader in READERS
    assert set(card.counts) == {"nodes", "links", "features", "classes"}
    assert card.splits
    assert all(split.note for split in card.splits.values())
    assert all(file.url and file.url.startswith("https://") for file in card.files)
    assert len({file.path for file in card.files}) == len(card.files)


def test_titles_are_unique():
    assert len({card.title for card in CARDS.values()}) == len(CARDS)


def test_every_downloaded_data_set_has_known_counts():
    assert sorted(KNOWN) == DOWNLOADED


@pytest.mark.mirror
@pytest.mark.parametrize("name", DOWNLOADED)
def test_real_files_give_what_card_and_literature_say(name, graphs):
    graph, problems = graphs(name)
    card = CARDS[name]
    nodes, links, features, classes, entries, first = KNOWN[name]
    assert problems == []
    assert count(graph) == card.counts == {"nodes": nodes, "links": links, "features": features, "classes": classes}
    assert graph.edge_index.shape == (2, entries)
    assert graph.splits[next(iter(card.splits))].sizes == first
    assert list(graph.splits) == list(card.splits)
    assert (graph.x.dtype, graph.edge_index.dtype, graph.y.dtype) == (np.float32, np.int64, np.int64)


@pytest.mark.mirror
@pytest.mark.parametrize("name", DOWNLOADED)
def test_splits_never_share_a_node(name, graphs):
    graph, _ = graphs(name)
    for split in graph.splits.values():
        roles = split.train.astype(int) + split.val + split.test
        assert roles.max() == 1
        assert min(split.sizes) > 0
    whole = [split for key, split in graph.splits.items() if key != "public"]
    if name not in NODES_OUTSIDE_SOME_SPLIT:
        assert all(sum(split.sizes) == len(graph.y) for split in whole)


@pytest.mark.mirror
def test_cornell_and_texas_share_one_node_file(graphs):
    cornell, texas = graphs("cornell")[0], graphs("texas")[0]
    assert (cornell.x != texas.x).nnz == 0
    assert (cornell.y == texas.y).all()
    assert cornell.edge_index.shape != texas.edge_index.shape


def same(graph: NodeGraph, theirs, **edges) -> None:
    """Our arrays, treated as torch-geometric treats them, against what its loader returned."""
    np.testing.assert_array_equal(graph.x.toarray(), theirs.x.numpy())
    np.testing.assert_array_equal(graph.y, theirs.y.numpy())
    got = distinct_edges(graph.edge_index, len(graph.y), **edges)
    expected = theirs.edge_index.numpy()
    np.testing.assert_array_equal(got, expected[:, np.lexsort(expected[::-1])])


@pytest.mark.mirror
@pytest.mark.parametrize("name", ["cora", "citeseer"])
def test_planetoid_equals_torch_geometric(name, graphs, mirror):
    io = pytest.importorskip("torch_geometric.io")
    graph = graphs(name)[0]
    theirs = io.read_planetoid_data(f"{mirror}/planetoid/data", name)
    same(graph, theirs, loops=False)
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(graph.splits["public"], part), theirs[f"{part}_mask"].numpy())


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("name", "loader", "arguments", "raw"),
    [
        ("chameleon", "WikipediaNetwork", {"name": "chameleon"}, "chameleon/geom_gcn/raw"),
        ("texas", "WebKB", {"name": "texas"}, "texas/raw"),
        ("actor", "Actor", {}, "raw"),
    ],
)
def test_geom_gcn_equals_torch_geometric(name, loader, arguments, raw, graphs, mirror, tmp_path):
    datasets = pytest.importorskip("torch_geometric.datasets")
    place(CARDS[name], mirror, tmp_path / raw)
    theirs = getattr(datasets, loader)(str(tmp_path), **arguments)[0]
    graph = graphs(name)[0]
    same(graph, theirs, loops=True)
    for number in range(10):
        for part in ("train", "val", "test"):
            mask = getattr(graph.splits[f"geom-{number}"], part)
            np.testing.assert_array_equal(mask, theirs[f"{part}_mask"][:, number].numpy())


@pytest.mark.mirror
def test_gnn_benchmark_equals_torch_geometric(graphs, mirror):
    io = pytest.importorskip("torch_geometric.io")
    theirs = io.read_npz(f"{mirror}/{CARDS['amazon-photo'].files[0].path}")
    same(graphs("amazon-photo")[0], theirs, loops=False, undirected=True)


def place(card: DatasetCard, mirror: str, folder: Path) -> None:
    """The card's files where torch-geometric looks for them, so that it downloads nothing."""
    folder.mkdir(parents=True)
    for file in card.files:
        shutil.copy(f"{mirror}/{file.path}", folder)
