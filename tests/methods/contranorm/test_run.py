"""A graph made ready for training, and what is measured of answers, on small graphs made up here."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from methods.contranorm.run import Task, control, describe, make_model
from retable.cards import CardError
from retable.data.containers import NodeGraph, NodeSplit

CPU = torch.device("cpu")
SETTINGS = {
    "model": "gcn", "depth": 2, "norm": "CN", "norm_scale": 0.5, "tau": 1.0, "dropout": 0.5, "hidden": 6,
    "residual": 0, "layer_norm": "none", "heads": 2,
}  # fmt: skip


def made_up(name: str = "made-up", nodes: int = 24) -> tuple[NodeGraph, NodeSplit]:
    """Links in both directions, some twice, and a loop; the last node is alone and has no feature."""
    random = np.random.default_rng(0)
    links = random.integers(0, nodes - 1, (2, 2 * nodes))
    links = links[:, links[0] != links[1]]
    edges = np.concatenate([links, links[::-1], links[:, :3], [[4], [4]]], axis=1)
    x = (random.random((nodes, 9)) < 0.4).astype(np.float32)
    x[-1] = 0
    masks = [np.arange(nodes) % 3 == part for part in range(3)]
    return NodeGraph(name, scipy.sparse.csr_matrix(x), edges, np.arange(nodes) * 7 % 5 % 4, {}), NodeSplit(*masks)


def build(name: str = "made-up", **settings) -> tuple[Task, nn.Module]:
    task = Task(*made_up(name), CPU)
    torch.manual_seed(0)
    return task, make_model(SETTINGS | settings, 9, task.classes)


@pytest.mark.parametrize("name", ["made-up", "chameleon"])
def test_a_node_is_given_the_mean_of_itself_and_its_neighbours_and_features_are_shares(name: str) -> None:
    graph, split = made_up(name)
    task = Task(graph, split, CPU)
    weights = np.eye(24)
    for source, target in graph.edge_index.T:
        if source != target:
            weights[target, source] = weights[source, target] = 1
        elif name == "chameleon":  # where torch-geometric keeps loops, they count twice
            weights[target, source] = 2
    assert np.allclose(task.propagate.csr.to_dense(), weights / weights.sum(1, keepdims=True))
    x = graph.x.toarray()
    assert np.allclose(task.x.csr.to_dense(), x / (1e-6 + x.sum(1, keepdims=True)))


def test_loss_and_accuracies_are_those_of_a_loop_and_leave_the_mode_of_training_alone() -> None:
    task, model = build()
    graph, split = made_up()
    logits = task.forward(model.eval()).detach().tolist()
    loss = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, graph.y, strict=True)]
    assert task.loss(model).item() == pytest.approx(np.mean([loss[i] for i in range(24) if split.train[i]]), rel=1e-5)
    for training in (True, False):
        found = task.accuracies(model.train(training))  # dropout would change the answers
        assert model.training == training
        for part, mask in (("train", split.train), ("val", split.val), ("test", split.test)):
            right = [int(np.argmax(logits[i])) == graph.y[i] for i in range(24) if mask[i]]
            assert found[part] == pytest.approx(100 * np.mean(right))


def test_sgc_propagates_once_and_only_its_last_layer_learns() -> None:
    task, model = build(model="sgc", norm="none", dropout=0.0)
    logits = task.forward(model)
    dense = np.linalg.matrix_power(task.propagate.csr.to_dense().numpy(), 2) @ task.x.csr.to_dense().numpy()
    assert np.allclose(task.smoothed(model), dense, atol=1e-6)
    assert task.smoothed(model) is task.smoothed(model)
    assert sorted(p.shape for p in model.parameters()) == [(4,), (4, 9)]
    assert torch.equal(logits, model.classify(task.smoothed(model)))


def test_answers_are_described_by_their_largest_share_and_the_public_nodes() -> None:
    answers, y = np.array([2, 2, 0, 2, 1, 1]), np.array([2, 0, 0, 2, 1, 0])
    test, public = np.array([0, 1, 2, 3]), np.array([1, 4, 5])
    assert describe(answers, y, test, None) == {"test_largest_class_share": 75.0}
    found = describe(answers, y, test, public)
    assert found == {"test_largest_class_share": 75.0, "public_test_accuracy": pytest.approx(100 / 3)}
    assert describe(np.full(6, 2), y, test, None) == {"test_largest_class_share": 100.0}


def test_the_majority_answers_the_most_frequent_training_class_and_regression_sees_features() -> None:
    graph, split = made_up()
    context = SimpleNamespace(data=lambda: (graph, split))
    metrics = control(SimpleNamespace(settings={"model": "majority"}), context).metrics
    most = max(range(4), key=lambda label: (graph.y[split.train] == label).sum())
    assert metrics["last_test_accuracy"] == pytest.approx(100 * np.mean(graph.y[split.test] == most))
    assert metrics["last_test_accuracy"] == metrics["best_val_test_accuracy"]
    assert metrics["last_test_largest_class_share"] == 100
    plain = NodeGraph("plain", scipy.sparse.csr_matrix(np.eye(4)[graph.y]), graph.edge_index, graph.y, {})
    learned = SimpleNamespace(data=lambda: (plain, split))
    metrics = control(SimpleNamespace(settings={"model": "logistic-regression"}), learned).metrics
    assert metrics["last_test_accuracy"] == metrics["best_val_accuracy"] == 100


def test_an_unknown_model_is_named_with_the_choices() -> None:
    with pytest.raises(CardError, match=r"unknown model 'gnn'; .*valid: gat, gcn, logistic-regression, majority, sgc"):
        build(model="gnn")
