"""Small settings and data of methods on nodes and on graphs, and a project whose archives are written here."""

import dataclasses
import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from methods.gcl.nodes.encoders import View
from methods.gcl.nodes.learner import Learner
from methods.gcl.nodes.learners import LEARNERS
from methods.gcl.nodes.task import NodeTask
from methods.gcl.settings import GraphSettings, NodeSettings
from retable.cards import load_unpinned
from retable.config import Config, Workspace
from retable.data.adopt import write_card
from retable.data.fetch import fetch
from retable.data.graph_sets import GraphSet
from retable.plan import Cell, plan

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())

SMALL_GRAPH_METHOD = {
    "method": "graphcl",
    "loss": "contrast",
    "encoder": "gin",
    "trained": True,
    "augmentation": "drop-nodes",
    "ratio": 0.1,
    "noise_variance": 1e-4,
    "official_quirks": False,
    "hidden": 4,
    "layers": 2,
    "tau": 0.5,
    "lr": 0.01,
    "epochs": 2,
    "batch_size": 6,
}
SMALL_NODE_METHOD = {
    "method": "grace", "loss": "contrast", "encoder": "gcn", "normaliser": "none", "norm_scale": 5.0,
    "augmentation": "own", "noise_variance": 1e-4, "hidden": 8, "projection": 8, "layers": 2, "activation": "prelu",
    "tau": 0.5, "drop_edges_1": 0.2, "drop_edges_2": 0.2, "drop_features_1": 0.2, "drop_features_2": 0.2, "sample": 0,
    "lr": 0.01, "epochs": 8, "official_quirks": False, "centrality": "degree", "weight_init": 0.05, "weights_from": 2,
    "out": 6, "predictor": 16, "warmup": 2, "target_momentum": 0.9, "trained": True, "weight_decay": 0.0,
    "patience": 0, "row_normalise": True, "splits": "random",
}  # fmt: skip
SMALL_ARXIV = {"hidden": 16, "projection": 16, "sample": 20, "epochs": 5, "lr": 0.01}


@pytest.fixture
def graph_settings() -> Callable[..., GraphSettings]:
    """Gives small settings of a method on sets of graphs, with changes."""
    return lambda **changes: GraphSettings.parse(SMALL_GRAPH_METHOD | changes, "gcl/graph")


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str, dict[str, str]], Workspace]:
    """The workspace with a card for the data set, made of an archive of these tables (path: text), and its files."""

    def own(name: str, tables: dict[str, str]) -> Workspace:
        for folder in ("methods", "retable"):
            (tmp_path / folder).symlink_to(ROOT / folder)
        (tmp_path / "datasets").mkdir()
        for card in (ROOT / "datasets").glob("*.yaml"):
            (tmp_path / "datasets" / card.name).symlink_to(card)
        known = load_unpinned(ROOT, name)
        archive = tmp_path / "mirror" / known.archive.path
        archive.parent.mkdir(parents=True)
        top = known.members[0].split("/")[0]
        with zipfile.ZipFile(archive, "w") as bundle:
            for path, text in tables.items():
                bundle.writestr(f"{top}/{path}.csv.gz", gzip.compress(text.encode(), mtime=0))
        write_card(known, archive, tmp_path)
        workspace = Workspace(tmp_path, Config(device="cpu"))
        fetch(workspace.datasets[name], workspace.raw, mirror=str(tmp_path / "mirror"))
        return workspace

    return own


@pytest.fixture
def graph_set() -> Callable[..., GraphSet]:
    """Gives a small set of rings and stars: `rings_and_stars`."""
    return rings_and_stars


def rings_and_stars(graphs: int = 24, labels: bool = True, hard: bool = False) -> GraphSet:
    """Rings (class 0), stars (class 1) of 4 to 7 nodes; `hard` adds an edgeless graph, an isolated node, loops."""
    edges, node_graph, y = [], [], []
    for number in range(graphs):
        size, first = 4 + number % 4, len(node_graph)
        star = number % 2
        links = [(0, k) for k in range(1, size)] if star else [(k, (k + 1) % size) for k in range(size)]
        if hard and number == 3:
            links = []
        if hard and number == 4:
            links = [link for link in links if size - 1 not in link] + [(0, 0), (0, 1)]
        edges += [(first + a, first + b) for link in links for a, b in (link, link[::-1])]
        node_graph += [number] * size
        y.append(star)
    node_graph, y = np.array(node_graph), np.array(y)
    edge_index = np.array(edges).T
    kinds = np.bincount(edge_index[1], minlength=len(node_graph)) % 3 if labels else None
    return GraphSet("made-up", edge_index, node_graph, y, kinds, None, {})


@pytest.fixture
def learner_of() -> Callable[..., Learner]:
    """Gives a learner on a small planted graph, with changes of its settings; `empty`: as in `planted_task`."""

    def learner_of(empty: bool = False, **changes) -> Learner:
        parsed = NodeSettings.parse(SMALL_NODE_METHOD | changes, "gcl/node")
        torch.manual_seed(0)
        return LEARNERS[parsed.method](planted_task(empty), parsed)

    return learner_of


def planted_task(empty: bool = False) -> NodeTask:
    """Two blocks with more links and words of their own inside; `empty`: a word and a node without any."""
    random = np.random.default_rng(0)
    nodes, words = 30, 24
    y = np.arange(nodes) // 15
    upper = np.triu(random.random((nodes, nodes)) < np.where(y[:, None] == y, 0.4, 0.05), 1)
    x = random.random((nodes, words)) < np.where(np.arange(words) // 12 == y[:, None], 0.4, 0.1)
    x = x.astype(np.float32)
    if empty:
        x[:, 3] = 0
        x[5] = 0
    task = object.__new__(NodeTask)  # no splits are needed here
    edges = torch.from_numpy(np.stack(np.nonzero(upper | upper.T)))
    task.view, task.y = View.of(torch.from_numpy(scipy.sparse.csr_matrix(x).toarray()), edges), torch.from_numpy(y)
    return task


@pytest.fixture
def loss_of() -> Callable[..., float]:
    """Gives the loss of a learner of nodes after a seed of torch's."""

    def loss_of(learner: Learner, seed: int = 0, epoch: int = 1) -> float:
        torch.manual_seed(seed)
        return learner.loss(epoch).item()

    return loss_of


@pytest.fixture
def arxiv(own) -> tuple[Workspace, dict[str, Cell]]:
    """The workspace of a small graph in place of ogbn-arxiv and its recipe's cells, small, by variant."""
    workspace = own("ogbn-arxiv", arxiv_tables())
    cells = plan(workspace.papers, workspace.datasets, "full", ["gcl"], ["ogbn-arxiv"])
    return workspace, {
        cell.variant: dataclasses.replace(cell, settings=cell.settings | SMALL_ARXIV, seeds=(0,))
        for cell in cells
        if cell.recipe == "node-ogb"
    }


def arxiv_tables(size: int = 30, blocks: int = 3) -> dict[str, str]:
    """Blocks that cite themselves five times as often as others; signed features, a little apart by block."""
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(blocks), size)
    cites = np.argwhere(random.random((len(y),) * 2) < np.where(y[:, None] == y, 0.15, 0.03))
    x = random.normal(size=(len(y), 8)) + np.eye(8)[y]
    order = random.permutation(len(y))
    parts = {"train": order[:45], "valid": order[45:65], "test": order[65:]}
    return {
        "raw/edge": csv(cites),
        "raw/node-feat": csv(x),
        "raw/node-label": csv(y),
        **{f"split/time/{part}": csv(nodes) for part, nodes in parts.items()},
    }


def csv(rows) -> str:
    return "".join(",".join(f"{value:g}" for value in np.atleast_1d(row)) + "\n" for row in rows)
