"""A graph as tensors, and the masks of both protocols, on small graphs made up here."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from methods.gcl.nodes.task import SPLITS, NodeTask
from methods.gcl.settings import NodeSettings
from retable.cards import CardError
from retable.data.containers import NodeGraph, NodeSplit
from retable.plan import Cell
from retable.train.context import Context

SETTINGS = {
    "method": "grace", "loss": "contrast", "encoder": "gcn", "normaliser": "none", "norm_scale": 1.0,
    "augmentation": "own", "noise_variance": 1e-4, "trained": True, "hidden": 8, "projection": 8, "layers": 2,
    "activation": "prelu", "tau": 0.5, "drop_edges_1": 0.2, "drop_edges_2": 0.2, "drop_features_1": 0.2,
    "drop_features_2": 0.2, "sample": 0, "lr": 0.01, "weight_decay": 0.0, "epochs": 1, "patience": 0,
    "row_normalise": True, "splits": "random", "official_quirks": False,
}  # fmt: skip


def random_graph(nodes: int, share: float = 0.1, splits: dict | None = None) -> NodeGraph:
    """Directed links, some twice and some loops; the last node has no feature."""
    random = np.random.default_rng(0)
    x = np.where(random.random((nodes, 12)) < share, random.random((nodes, 12)), 0).astype(np.float32)
    x[-1] = 0
    edges = random.integers(0, nodes, (2, 3 * nodes))
    return NodeGraph("made-up", scipy.sparse.csr_matrix(x), edges, np.arange(nodes) % 3, splits or {})


def settings(**changes) -> NodeSettings:
    return NodeSettings.parse(SETTINGS | changes, "gcl/node")


def context(folder: Path, seed: int = 0, **changes) -> Context:
    cell = Cell("gcl", "node", "made-up", "none", "v", {}, SETTINGS | changes, "demo", "p", (0,))
    return Context(cell, seed, None, folder, folder, torch.device("cpu"), "small")


def test_protocols_share_the_training_tenth_and_cover_all_nodes(tmp_path: Path) -> None:
    graph = random_graph(63)
    task = NodeTask(graph, settings(), context(tmp_path))
    sizes = {"10_80_10": (6, 50, 7), "10_10_80": (6, 6, 51)}
    assert task.train.shape == (SPLITS, 63)
    for name, (val, test) in task.protocols.items():
        assert torch.equal(task.train.int() + val.int() + test.int(), torch.ones_like(val).int())
        assert (task.train[0].sum(), val[0].sum(), test[0].sum()) == sizes[name]
    assert not torch.equal(task.train[0], task.train[1])


def test_seeds_have_splits_of_their_own_and_variants_share_them(tmp_path: Path) -> None:
    graph = random_graph(60)
    masks = [
        NodeTask(graph, settings(**changes), context(tmp_path, seed, **changes)).train
        for seed, changes in ((0, {}), (0, {"loss": "no-positives"}), (1, {}))
    ]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_fixed_masks_are_the_data_sets_own_in_their_order(tmp_path: Path) -> None:
    masks = np.arange(24).reshape(2, 12) % 3
    splits = {f"fold-{k}": NodeSplit(*(masks[k] == part for part in (k, k + 1, (k + 2) % 3))) for k in range(2)}
    task = NodeTask(random_graph(12, splits=splits), settings(splits="fixed"), context(tmp_path))
    val, test = task.protocols["fixed"]
    assert list(task.protocols) == ["fixed"]
    for number, split in enumerate(splits.values()):
        for found, expected in ((task.train, split.train), (val, split.val), (test, split.test)):
            assert found[number].tolist() == expected.tolist()
    with pytest.raises(CardError, match="setting 'splits' is 'fixd': Input should be 'random' or 'fixed'"):
        settings(splits="fixd")


def test_edges_are_both_directions_of_each_link_once_without_loops(tmp_path: Path) -> None:
    graph = random_graph(20)
    links = {pair for a, b in graph.edge_index.T.tolist() if a != b for pair in ((a, b), (b, a))}
    edges = NodeTask(graph, settings(), context(tmp_path)).view.edges.T.tolist()
    assert len(edges) == len(links)
    assert set(map(tuple, edges)) == links


@pytest.mark.parametrize("normalised", [False, True])
def test_features_are_sparse_where_few_are_present_with_the_same_values(normalised: bool, tmp_path: Path) -> None:
    for share, dense in ((0.1, False), (0.9, True)):
        graph = random_graph(20, share)
        expected = graph.x.toarray()
        if normalised:
            expected = np.array([row / row.sum() if row.any() else row for row in expected])
        task = NodeTask(graph, settings(row_normalise=normalised), context(tmp_path))
        x = task.view.x
        assert isinstance(x, torch.Tensor) == dense
        assert np.allclose(x if dense else x.csr.to_dense(), expected, rtol=1e-6)
        assert task.features == 12
