"""LAGCN and its losses."""

import pytest
import torch

from methods.lagnn.model import LAGCN, GraphConvolution, consistency_loss, random_propagation, sharpened
from retable.nn.sparse import SparseMatrix


def test_branches_are_concatenated_and_sparse_features_are_the_same() -> None:
    torch.manual_seed(0)
    model, adjacency = LAGCN(4, 3, 2, 2, init="xavier").eval(), torch.rand(5, 5)
    first, second = torch.rand(5, 4), torch.rand(5, 4).round()
    hidden = [
        torch.relu(adjacency @ (x @ layer.weight) + layer.bias)
        for layer, x in zip(model.first, (first, second), strict=True)
    ]
    expected = adjacency @ (torch.cat(hidden, 1) @ model.second.weight) + model.second.bias
    torch.testing.assert_close(model([first, second], adjacency), expected.log_softmax(1))
    sparse = SparseMatrix(second.to_sparse_csr())
    torch.testing.assert_close(model([first, sparse], SparseMatrix(adjacency.to_sparse_csr())), expected.log_softmax(1))


def test_the_number_of_inputs_is_checked() -> None:
    with pytest.raises(ValueError, match="1 inputs for 2 branches"):
        LAGCN(4, 3, 2, 2)([torch.rand(5, 4)], torch.eye(5))


def test_the_official_start_has_a_negative_mean() -> None:
    torch.manual_seed(0)
    weight = GraphConvolution(1000, 16, "official").weight
    assert weight.mean().item() == pytest.approx(-0.25, abs=0.01)
    assert weight.std().item() == pytest.approx(0.25, abs=0.01)
    assert abs(GraphConvolution(1000, 16, "xavier").weight.mean().item()) < 0.01


def test_draws_that_agree_are_pulled_to_their_sharpened_self_alone() -> None:
    p = torch.tensor([[0.6, 0.4]])
    target = sharpened(p, 0.5)
    torch.testing.assert_close(target, torch.tensor([[0.36, 0.16]]) / 0.52)
    loss = consistency_loss(p.log().expand(3, 1, 2), 0.5, 2.0)
    torch.testing.assert_close(loss, 2 * (p - target).square().sum())


def test_the_target_of_the_consistency_loss_has_no_gradient() -> None:
    log_p = torch.tensor([[[0.7, 0.3]], [[0.5, 0.5]]]).log().requires_grad_()
    consistency_loss(log_p, 0.5, 1.0).backward()
    p, target = log_p.exp().detach(), sharpened(torch.tensor([[0.6, 0.4]]), 0.5)
    torch.testing.assert_close(log_p.grad, (p - target) * p)


def test_propagation_is_the_mean_of_powers() -> None:
    torch.manual_seed(0)
    x, a = torch.rand(4, 2), torch.rand(4, 4)
    torch.testing.assert_close(random_propagation(x, a, 2), (x + a @ x + a @ a @ x) / 3)
