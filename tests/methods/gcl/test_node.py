"""Node training on small planted graphs: the paper's differences between variants, and graphs hard to digest."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from methods.gcl import node
from retable.cards import CardError
from retable.data.containers import DataError, NodeGraph, NodeSplit
from retable.plan import Cell
from retable.run import evaluate, fixed_batch, measure
from retable.train.context import Context

SETTINGS = {
    "method": "grace", "loss": "contrast", "encoder": "gcn", "normaliser": "none", "norm_scale": 5.0,
    "augmentation": "own", "noise_variance": 1e-4, "trained": True, "hidden": 32, "projection": 32, "layers": 2,
    "activation": "prelu", "tau": 0.5, "drop_edges_1": 0.2, "drop_edges_2": 0.2, "drop_features_1": 0.2,
    "drop_features_2": 0.2, "sample": 0, "lr": 0.01, "weight_decay": 5e-4, "epochs": 3, "patience": 0,
    "row_normalise": True, "splits": "random", "official_quirks": False, "centrality": "degree", "weight_init": 0.05,
    "weights_from": 2, "out": 16, "predictor": 16, "warmup": 1, "target_momentum": 0.99,
}  # fmt: skip
METHODS = {
    **{loss: {"loss": loss} for loss in ("contrast", "no-positives", "no-negatives", "neighbours")},
    **{f"grace-{kind}": {"augmentation": kind} for kind in ("none", "noise")},
    **{f"grace-{norm}": {"normaliser": norm} for norm in ("layernorm", "contranorm", "feature-contranorm")},
    "grace-mlp": {"encoder": "mlp"},
    "grace-mlp-no-augmentation": {"encoder": "mlp", "augmentation": "none"},
    "grace-batchnorm": {"encoder": "batchnorm-gcn", "layers": 3, "activation": "relu"},
    "grace-batchnorm-no-augmentation": {"encoder": "batchnorm-gcn", "augmentation": "none"},
    "grace-rrelu": {"activation": "rrelu", "augmentation": "none"},
    "grace-sampled": {"sample": 20},
    "grace-untrained": {"trained": False},
    **{f"gca-{c}": {"method": "gca", "centrality": c} for c in ("degree", "pagerank", "eigenvector")},
    "gca-quirks": {"method": "gca", "centrality": "eigenvector", "official_quirks": True},
    **{f"progcl-{loss}": {"method": "progcl", "loss": loss} for loss in ("contrast", "no-positives", "no-negatives")},
    "bgrl": {"method": "bgrl"},
    **{f"dgi-{loss}": {"method": "dgi", "loss": loss} for loss in ("contrast", "no-positives", "no-negatives")},
    "mvgrl": {"method": "mvgrl", "patience": 20},
    "raw-features": {"method": "raw-features"},
    "majority": {"method": "majority"},
}


def planted(blocks: int = 4, size: int = 60, seed: int = 0) -> NodeGraph:
    """A planted partition: links and words are a little more common inside a block."""
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(blocks), size)
    nodes, words = len(y), 24 * blocks
    same = y[:, None] == y
    upper = np.triu(random.random((nodes, nodes)) < np.where(same, 0.1, 0.016), 1)
    source, target = np.nonzero(upper | upper.T)
    topic = np.arange(words) // 24
    x = (random.random((nodes, words)) < np.where(topic == y[:, None], 0.13, 0.06)).astype(np.float32)
    return NodeGraph("planted", scipy.sparse.csr_matrix(x), np.stack([source, target]), y, {})


class Small(Context):
    """A context whose data is a graph at hand."""

    def __init__(self, graph: NodeGraph, cell: Cell, folder: Path, seed: int = 0) -> None:
        super().__init__(cell, seed, None, folder, folder, torch.device("cpu"), "small")
        self.graph = graph

    def data(self) -> tuple[NodeGraph, None]:
        return self.graph, None


def cell_of(**settings) -> Cell:
    # Rows without an encoder are controls by the names of their variants.
    variant = settings.get("method", "v")
    return Cell("gcl", "node", "planted", "none", variant, {}, SETTINGS | settings, "demo", "p", (0,))


def measured(graph: NodeGraph, folder: Path, seed: int = 0, **settings) -> dict[str, float]:
    cell = cell_of(**settings)
    return measure(node, cell, Small(graph, cell, folder / f"{seed}-{len(list(folder.iterdir()))}", seed)).metrics


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_runs_repeats_itself_and_is_evaluated_from_its_weights(name: str, tmp_path: Path) -> None:
    graph = planted(3, 20)
    cell = cell_of(**METHODS[name])
    first = measure(node, cell, Small(graph, cell, tmp_path / "a"))
    assert 0 <= first.metrics["test_accuracy_10_80_10"] <= 100
    assert all(np.isfinite(value) for value in first.metrics.values())
    assert measure(node, cell, Small(graph, cell, tmp_path / "b")).metrics == first.metrics
    assert evaluate(node, cell, Small(graph, cell, tmp_path / "a")).metrics == first.metrics


@pytest.mark.parametrize("name", [name for name in METHODS if name not in node.Node.controls])
def test_one_step_lowers_the_loss_on_a_fixed_batch(name: str, tmp_path: Path) -> None:
    cell = cell_of(**METHODS[name])
    model, loss = fixed_batch(node, cell, Small(planted(3, 20), cell, tmp_path))
    before = loss()
    before.backward()
    assert loss().item() == before.item()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    size = sum(g.square().sum() for g in gradients).sqrt()
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= 0.01 * p.grad / size
    assert loss().item() < before.item()


# The paper's differences ----------------------------------------------------------------------------------------------

VARIANTS = {
    "contrast": {},
    "no-positives": {"loss": "no-positives"},
    "no-negatives": {"loss": "no-negatives"},
    "no-negatives-contranorm": {"loss": "no-negatives", "normaliser": "contranorm"},
    "mlp": {"encoder": "mlp"},
}


@pytest.fixture(scope="module")
def trends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Means over two seeds on a planted partition of four blocks."""
    folder, means = tmp_path_factory.mktemp("trends"), {}
    for name, settings in VARIANTS.items():
        runs = [measured(planted(seed=s), folder, s, lr=3e-3, epochs=60, **settings) for s in range(2)]
        means[name] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    return means


def test_positives_are_dispensable(trends: dict) -> None:
    gap = trends["contrast"]["test_accuracy_10_10_80"] - trends["no-positives"]["test_accuracy_10_10_80"]
    assert abs(gap) < 10


def test_without_negatives_representations_collapse_and_accuracy_is_lost(trends: dict) -> None:
    assert trends["no-negatives"]["mean_cosine"] > 0.98
    assert trends["no-negatives"]["test_accuracy_10_10_80"] < trends["contrast"]["test_accuracy_10_10_80"] - 10


def test_contranorm_takes_the_place_of_negatives(trends: dict) -> None:
    spread, collapsed = trends["no-negatives-contranorm"], trends["no-negatives"]
    assert spread["mean_cosine"] < 0.6
    assert spread["test_accuracy_10_10_80"] > collapsed["test_accuracy_10_10_80"] + 10


def test_the_architecture_matters(trends: dict) -> None:
    assert trends["contrast"]["test_accuracy_10_10_80"] > trends["mlp"]["test_accuracy_10_10_80"] + 15
    assert trends["contrast"]["neighbour_cosine"] > trends["mlp"]["neighbour_cosine"]


# Protocols ------------------------------------------------------------------------------------------------------------


def test_fixed_splits_are_the_data_sets_own(tmp_path: Path) -> None:
    graph = planted(3, 20)
    order = np.random.default_rng(0).permutation(60)
    parts = [np.isin(np.arange(60), order[a:b]) for a, b in ((0, 20), (20, 40), (40, 60))]
    splits = {"a": NodeSplit(*parts), "b": NodeSplit(parts[1], parts[0], parts[2])}
    metrics = measured(dataclasses.replace(graph, splits=splits), tmp_path, splits="fixed")
    assert {"test_accuracy_fixed", "val_accuracy_fixed", "split_deviation_fixed"} <= metrics.keys()
    assert "test_accuracy_10_80_10" not in metrics


# Graphs that are hard to digest ---------------------------------------------------------------------------------------


def isolated(graph: NodeGraph) -> NodeGraph:
    keep = (graph.edge_index > 9).all(0)
    return dataclasses.replace(graph, edge_index=graph.edge_index[:, keep])


def edgeless(graph: NodeGraph) -> NodeGraph:
    return dataclasses.replace(graph, edge_index=np.empty((2, 0), dtype=np.int64))


def looped(graph: NodeGraph) -> NodeGraph:
    loops = np.arange(len(graph.y))
    return dataclasses.replace(graph, edge_index=np.concatenate([graph.edge_index, [loops, loops]], axis=1))


def rare_class(graph: NodeGraph) -> NodeGraph:
    y = graph.y.copy()
    y[0] = graph.y.max() + 1  # nearly always outside the training tenth
    return dataclasses.replace(graph, y=y)


def empty_column(graph: NodeGraph) -> NodeGraph:
    x = graph.x.tolil()
    x[:, 3] = 0
    x[5] = 0  # and a node without features
    return dataclasses.replace(graph, x=scipy.sparse.csr_matrix(x))


@pytest.mark.parametrize("change", [isolated, edgeless, looped, rare_class, empty_column])
@pytest.mark.parametrize("name", ["contrast", "neighbours", "grace-contranorm", "gca-degree", "gca-pagerank",
                                  "gca-eigenvector", "progcl-contrast", "bgrl", "dgi-contrast", "mvgrl"])  # fmt: skip
def test_hard_graphs_give_numbers(change, name: str, tmp_path: Path) -> None:
    metrics = measured(change(planted(3, 20)), tmp_path, **METHODS[name])
    assert all(np.isfinite(value) for value in metrics.values())


def test_self_loops_change_nothing(tmp_path: Path) -> None:
    graph = planted(3, 20)
    assert measured(looped(graph), tmp_path) == measured(graph, tmp_path)


def test_without_features_or_nodes_one_line_says_what_to_do(tmp_path: Path) -> None:
    graph = planted(3, 20)
    with pytest.raises(DataError, match="planted: no node features; give each node a one-hot degree"):
        measured(dataclasses.replace(graph, x=graph.x[:, :0]), tmp_path)
    few = NodeGraph("few", graph.x[:8], np.empty((2, 0), dtype=np.int64), graph.y[:8], {})
    with pytest.raises(DataError, match="few: 8 nodes cannot be split 10/10/80"):
        measured(few, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "grase"}, "setting 'method' is 'grase': Input should be 'grace', 'gca'"),
        ({"encoder": "gat"}, "setting 'encoder' is 'gat': Input should be 'gcn', 'batchnorm-gcn' or 'mlp'"),
        ({"augmentation": "noisy"}, "setting 'augmentation' is 'noisy': Input should be 'own', 'none' or 'noise'"),
        ({"splits": "public"}, "setting 'splits' is 'public': Input should be 'random' or 'fixed'"),
    ],
)
def test_unknown_settings_are_named(settings: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(CardError, match=message):
        measured(planted(3, 20), tmp_path, **settings)
