"""The linear encoder."""

import torch

from methods.ncn.encoder import PureGCN, propagation
from methods.ncn.overlap import Neighbours
from retable.nn.sparse import SparseMatrix

GRAPH = Neighbours(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 4)


def test_propagation_is_normalised_with_a_loop_at_every_node() -> None:
    dense = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    s = dense.sum(1).rsqrt()
    torch.testing.assert_close(propagation(GRAPH, torch.float32).csr.to_dense(), s[:, None] * dense * s)


def test_layers_are_summed_with_learned_weights_and_sparse_features_are_the_same() -> None:
    torch.manual_seed(0)
    model, x = PureGCN(3, 2, layers=2), torch.rand(4, 3).round()
    matrix = propagation(GRAPH, torch.float32).csr.to_dense()
    first = matrix @ model.linear(x)
    expected = model.jkparams[0] * first + model.jkparams[1] * (matrix @ first)
    torch.testing.assert_close(model(x, GRAPH), expected)
    torch.testing.assert_close(model(SparseMatrix(x.to_sparse_csr()), GRAPH), expected)
