"""GIND on several graphs with several labels a node: operators, the metric, a full-size step."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from methods.gind.inductive import Inductive, Task, majority, micro_f1
from methods.gind.settings import InductiveSettings
from retable.cards import load_paper
from retable.contract import step_lowers
from retable.data.containers import NodeSplit
from retable.data.node_sets import NodeSet


def tissues(nodes: int = 30, labels: int = 5, degree: int = 3) -> NodeSet:
    """Five graphs; a label is a sign of the features, so that it can be learnt."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(5), nodes)
    source = np.repeat(np.arange(5 * nodes), degree)
    target = owner[source] * nodes + rng.integers(0, nodes, len(source))
    edges = np.stack([np.concatenate([source, target]), np.concatenate([target, source])])
    x = rng.normal(size=(5 * nodes, 50)).astype(np.float32)
    y = (x @ rng.normal(size=(50, labels)) > 0).astype(np.int64)
    part = np.array([0, 0, 0, 1, 2])
    return NodeSet("tissues", x, edges, owner, y, {"fixed": NodeSplit(part == 0, part == 1, part == 2)})


def settings(root: Path, method: str, **changes) -> InductiveSettings:
    recipe = load_paper(root / "methods" / "gind" / "card.yaml").recipe("inductive")
    values = {key: hyper.value for key, hyper in recipe.hyper.items()} | recipe.variants[method].settings
    return InductiveSettings.parse(values | changes, "test")


def context(data: NodeSet) -> SimpleNamespace:
    return SimpleNamespace(
        data=lambda: (data, data.splits["fixed"]),
        device=torch.device("cpu"),
        seed_torch=lambda name: torch.manual_seed(0),
        epochs=lambda count, **parts: range(1, count + 1),
        log=lambda epoch, **values: None,
    )


def test_each_edge_is_counted_once_and_for_the_gcn_in_both_directions(root: Path) -> None:
    data = tissues()
    once, both = (Task(settings(root, method), context(data)).parts["val"][0] for method in ("gind", "gcn"))
    edges = once[1].edge_index
    assert (edges[0] < edges[1]).all()
    assert sorted(map(tuple, both[1].edge_index.T.tolist())) == sorted(
        [*map(tuple, edges.T.tolist()), *map(tuple, edges.flip(0).T.tolist())]
    )
    np.testing.assert_array_equal(once[0].numpy(), data.x[data.node_graph == 3])
    np.testing.assert_array_equal(once[2].numpy(), data.y[data.node_graph == 3])
    degree = torch.bincount(both[1].edge_index[0], minlength=30) + 1.0
    torch.testing.assert_close(once[1].s[:, 0], degree.rsqrt())


def test_the_metric_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    answers, y = (torch.randint(2, (40, 6), generator=generator).float() for _ in range(2))
    assert micro_f1(answers, y) == pytest.approx(100 * f1_score(y.numpy(), answers.numpy(), average="micro"))
    assert micro_f1(torch.zeros(4, 2), torch.zeros(4, 2)) == 0.0


@pytest.mark.parametrize("method", ["gind", "mlp", "explicit"])
def test_it_learns_labels_of_graphs_that_it_did_not_see(root: Path, method: str) -> None:
    data = tissues(nodes=60)
    found = Inductive(settings(root, method, channels=32, epochs=40, lr=0.01, implicit_lr=0.01), context(data))
    start = found._f1("test")
    found.train()
    metrics = found.measure().metrics
    chance = majority(settings(root, "majority"), context(data)).metrics["test_micro_f1"]
    assert metrics["test_micro_f1"] > max(start, chance) + 5
    assert metrics["val_micro_f1"] == pytest.approx(found.best.value)


def test_patience_ends_training(root: Path) -> None:
    found = Inductive(
        settings(root, "mlp", channels=8, epochs=500, patience=3, lr=0.0, implicit_lr=0.0), context(tissues())
    )
    lines: list[int] = []
    found.context.log = lambda epoch, **values: lines.append(epoch)
    found.train()
    assert lines == [1, 2, 3, 4]


@pytest.mark.parametrize("method", ["gind", "gcn"])
def test_a_step_of_the_authors_size_lowers_the_loss(root: Path, method: str) -> None:
    found = Inductive(settings(root, method), context(tissues(nodes=1500, labels=121, degree=14)))
    assert step_lowers(found.model, found.fixed_batch())
