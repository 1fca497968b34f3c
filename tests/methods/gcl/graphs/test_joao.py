import numpy as np
import pytest
import torch

from methods.gcl.graphs.joao import (
    AUGMENTATIONS,
    JOAO,
    TOLERANCE,
    augmented_view,
    project_to_simplex,
    update_distribution,
)
from retable.nn.graph_batch import GraphBatch, with_self_loops


@pytest.fixture
def batch() -> GraphBatch:
    """Six rings of ten nodes with the authors' self-loops."""
    node = torch.arange(60)
    after = node // 10 * 10 + (node + 1) % 10
    edges = torch.stack([torch.cat([node, after]), torch.cat([after, node])])
    torch.manual_seed(0)
    return with_self_loops(GraphBatch(torch.randn(60, 2), edges, node // 10, 6))


@pytest.mark.parametrize("size", [2, 5, 9])
def test_the_projection_is_a_distribution_close_to_the_exact_one(size):
    generator = np.random.default_rng(0)
    for _ in range(50):
        b = generator.normal(size=size, scale=generator.choice([0.01, 1, 100]))
        got = project_to_simplex(b)
        assert got.sum() == pytest.approx(1)
        assert (got >= 0).all()
        ordered = np.sort(b)[::-1]
        shifts = (ordered.cumsum() - 1) / np.arange(1, size + 1)
        exact = np.maximum(b - shifts[np.flatnonzero(ordered > shifts)[-1]], 0)
        np.testing.assert_allclose(got, exact, atol=2 * TOLERANCE)


def test_equal_losses_keep_the_uniform_distribution_and_a_high_one_gains():
    uniform = np.full(5, 0.2)
    np.testing.assert_allclose(update_distribution(uniform, np.full(5, 3.0), 1.0), uniform)
    after = update_distribution(uniform, np.array([0.0, 0.1, 0.0, 0.0, 0.0]), 1.0)
    assert after.argmax() == 1
    # A large gamma pulls back to the uniform distribution.
    skewed = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(update_distribution(skewed, np.zeros(5), 1.0), uniform, atol=0.01)


def test_each_graph_is_under_its_own_augmentation(batch):
    torch.manual_seed(1)
    choice = torch.tensor([4, 0, 1, 2, 3, 4])
    view = augmented_view(batch, choice)
    nodes = torch.bincount(view.node_graph, minlength=6)
    edges = torch.bincount(view.node_graph[view.edge_index[0]], minlength=6)
    assert nodes[[0, 4, 5]].tolist() == [10, 10, 10]
    assert edges[[0, 4, 5]].tolist() == [20, 20, 20]
    assert nodes[1] <= 8
    assert edges[2] < 20
    assert nodes[3] <= 3  # a node of a ring and its two neighbours
    rows = view.x[view.node_graph == 4] != batch.x[batch.node_graph == 4]
    assert int(rows.any(1).sum()) == 2
    assert torch.equal(view.x[view.node_graph == 0], batch.x[batch.node_graph == 0])


def test_heads_and_augmentations_follow_the_distribution(batch, graph_settings):
    torch.manual_seed(0)
    model = JOAO(2, graph_settings(method="joao"))
    assert len(model.heads) == len(AUGMENTATIONS)
    model.p.copy_(torch.tensor([0, 0, 0, 1.0, 0]))
    for _ in range(20):
        model.begin_epoch()
        assert model.head == 3


def test_the_update_moves_the_distribution_and_no_weight(batch, graph_settings):
    torch.manual_seed(0)
    model = JOAO(2, graph_settings(method="joao", tau=1.0, gamma=0.1, batch_size=6))
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    orders = []
    model.end_epoch(lambda: orders.append(1) or [batch])
    assert len(orders) == len(AUGMENTATIONS)  # each augmentation is judged in an order of its own
    assert float(model.p.sum()) == pytest.approx(1)
    assert model.p.min() >= 0
    assert not torch.allclose(model.p, torch.full((5,), 0.2, dtype=torch.float64))
    assert all(map(torch.equal, weights, model.parameters()))
    assert "p" in model.state_dict()
