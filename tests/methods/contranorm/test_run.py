"""A graph made ready for training, and what is measured of answers, on small graphs made up here."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from methods.contranorm.run import Task, by_protocol, evaluate, logistic_regression, majority, make_model
from methods.contranorm.settings import NodeSettings
from retable.cards import CardError
from retable.data.containers import NodeGraph, NodeSplit

CPU = torch.device("cpu")
SETTINGS = {
    "model": "gcn", "depth": 2, "norm": "CN", "norm_scale": 0.5, "tau": 1.0, "dropout": 0.5, "hidden": 6,
    "residual": 0, "layer_norm": "none", "heads": 2, "epochs": 1, "lr": 0.1, "weight_decay": 0.0, "eval_every": 1,
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
    return task, make_model(NodeSettings.parse(SETTINGS | settings, "made-up"), 9, task.classes)


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
        found = task.evaluate(model.train(training))  # dropout would change the answers
        assert model.training == training
        for part, mask in (("train", split.train), ("val", split.val), ("test", split.test)):
            right = [int(np.argmax(logits[i])) == graph.y[i] for i in range(24) if mask[i]]
            assert found[f"{part}_accuracy"] == pytest.approx(100 * np.mean(right))


def test_sgc_propagates_once_and_only_its_last_layer_learns() -> None:
    task, model = build(model="sgc", norm="none", dropout=0.0)
    logits = task.forward(model)
    dense = np.linalg.matrix_power(task.propagate.csr.to_dense().numpy(), 2) @ task.x.csr.to_dense().numpy()
    assert np.allclose(task.smoothed(model), dense, atol=1e-6)
    assert task.smoothed(model) is task.smoothed(model)
    assert sorted(p.shape for p in model.parameters()) == [(4,), (4, 9)]
    assert torch.equal(logits, model.classify(task.smoothed(model)))


def mask(*nodes: int) -> np.ndarray:
    return np.isin(np.arange(6), nodes)


def test_predictions_are_evaluated_by_their_largest_share_and_on_the_public_nodes_too() -> None:
    predictions, y = np.array([2, 2, 0, 2, 1, 1]), np.array([2, 0, 0, 2, 1, 0])
    split, public = NodeSplit(mask(4, 5), mask(5), mask(0, 1, 2, 3)), NodeSplit(mask(0), mask(2), mask(1, 4, 5))
    x, edges = scipy.sparse.csr_matrix((6, 1)), np.zeros((2, 0), int)
    plain, citations = (NodeGraph("made-up", x, edges, y, splits) for splits in ({}, {"public": public}))
    expected = {"train_accuracy": 50, "val_accuracy": 0, "test_accuracy": 75}
    expected |= {"test_largest_class_share": 75.0, "test_items": 4}
    assert evaluate(predictions, plain, split) == expected
    third, two_thirds = pytest.approx(100 / 3), pytest.approx(200 / 3)
    public = {"public_test_accuracy": third, "public_test_largest_class_share": two_thirds, "public_test_items": 3}
    assert evaluate(predictions, citations, split) == expected | public
    assert evaluate(np.full(6, 2), plain, split)["test_largest_class_share"] == 100.0


def test_metrics_of_the_best_epoch_are_those_that_no_epoch_is_chosen_by() -> None:
    names = ("train_accuracy", "val_accuracy", "test_accuracy", "test_largest_class_share", "public_test_accuracy")
    metrics = by_protocol(dict.fromkeys(names, 1.0), dict.fromkeys(names, 2.0))
    best = {"best_val_accuracy", "best_val_test_accuracy", "best_val_test_largest_class_share"}
    assert {name for name, value in metrics.items() if value == 2} == best | {"best_val_public_test_accuracy"}
    assert {name for name, value in metrics.items() if value == 1} == {f"last_{name}" for name in names}


def test_the_majority_answers_the_most_frequent_training_class_and_regression_sees_features() -> None:
    graph, split = made_up()
    context = SimpleNamespace(data=lambda: (graph, split))
    settings = NodeSettings.parse(SETTINGS, "made-up")
    metrics = majority(settings, context).metrics
    most = max(range(4), key=lambda label: (graph.y[split.train] == label).sum())
    assert metrics["last_test_accuracy"] == pytest.approx(100 * np.mean(graph.y[split.test] == most))
    assert metrics["last_test_accuracy"] == metrics["best_val_test_accuracy"]
    assert metrics["last_test_largest_class_share"] == 100
    plain = NodeGraph("plain", scipy.sparse.csr_matrix(np.eye(4)[graph.y]), graph.edge_index, graph.y, {})
    learned = SimpleNamespace(data=lambda: (plain, split))
    metrics = logistic_regression(settings, learned).metrics
    assert metrics["last_test_accuracy"] == metrics["best_val_accuracy"] == 100


def test_an_unknown_model_is_named_with_the_choices() -> None:
    with pytest.raises(
        CardError, match=r"'model' is 'gnn': .* 'gcn', 'gat', 'sgc', 'majority' or 'logistic-regression'"
    ):
        build(model="gnn")
