import pytest
import torch

from retable.nn.graph_layers import GraphAttention, GraphConvolution, dropped
from retable.nn.sparse import SparseMatrix, combine, row_indices, row_normalise, sym_normalise

NODES = 30


@pytest.fixture
def propagation() -> SparseMatrix:
    generator = torch.Generator().manual_seed(0)
    return SparseMatrix(row_normalise(combine(torch.randint(NODES, (2, 60), generator=generator), NODES)))


def test_parameters_start_uniform_within_one_over_the_root_of_the_outputs() -> None:
    torch.manual_seed(0)
    layer = GraphConvolution(400, 25)
    assert layer.bias.shape == (1, 25)
    for parameter in layer.parameters():
        assert parameter.abs().max() <= 0.2
    assert layer.weight.abs().max() > 0.199
    assert layer.weight.var().item() == pytest.approx(0.2**2 / 3, rel=0.05)


def test_attention_weights_sum_to_one_and_skip_absent_entries(propagation: SparseMatrix) -> None:
    layer = GraphAttention(NODES, 2 * NODES, heads=2).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.eye(NODES).expand(2, -1, -1))  # then h = x = I and the output is the weights
    weights = layer(torch.eye(NODES), propagation).view(NODES, 2, NODES)
    torch.testing.assert_close(weights.sum(2), torch.ones(NODES, 2))
    absent = propagation.csr.to_dense() == 0
    assert (weights.transpose(0, 1)[:, absent] == 0).all()


def test_a_convolution_propagates_sparse_and_dense_features_alike(propagation: SparseMatrix) -> None:
    layer, x = GraphConvolution(5, 3), torch.rand(NODES, 5).round()
    expected = propagation.csr.to_dense() @ x @ layer.weight + layer.bias
    torch.testing.assert_close(layer(x, propagation), expected)
    torch.testing.assert_close(layer(SparseMatrix(x.to_sparse_csr()), propagation), expected)


def test_dropout_is_that_of_the_stored_entries() -> None:
    x = torch.ones(40, 5)
    for features in (x, SparseMatrix(x.to_sparse_csr())):
        assert dropped(features, 0.5, False) is features or torch.equal(dropped(features, 0.5, False), x)
        torch.manual_seed(0)
        found = dropped(features, 0.5, True)
        dense = found.csr.to_dense() if isinstance(found, SparseMatrix) else found
        assert set(dense.unique().tolist()) == {0.0, 2.0}


def test_a_convolution_is_torch_geometrics_with_the_same_weights() -> None:
    from torch_geometric.nn import GCNConv

    edges = torch.randint(NODES, (2, 60), generator=torch.Generator().manual_seed(1))
    edges = edges[:, edges[0] != edges[1]]
    edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    layer, theirs, x = GraphConvolution(5, 3), GCNConv(5, 3), torch.randn(NODES, 5)
    with torch.no_grad():
        theirs.lin.weight.copy_(layer.weight.T)
        theirs.bias.copy_(layer.bias[0])
    found = layer(x, SparseMatrix(sym_normalise(combine(edges, NODES))))
    torch.testing.assert_close(found, theirs(x, edges))


def test_attention_is_torch_geometrics_with_the_same_weights(propagation: SparseMatrix) -> None:
    from torch_geometric.nn import GATConv

    layer, x = GraphAttention(5, 6, heads=2).eval(), torch.randn(NODES, 5)
    theirs = GATConv(5, 3, heads=2, add_self_loops=False, bias=False).eval()
    with torch.no_grad():
        theirs.lin.weight.copy_(layer.weight.transpose(0, 1).flatten(1).T)
        theirs.att_dst.copy_(layer.a[:, 0, :3])
        theirs.att_src.copy_(layer.a[:, 0, 3:])
    # Ours sums over the stored entries of a row; theirs sends from the first of an edge to the second.
    edges = torch.stack([propagation.csr.col_indices(), row_indices(propagation.csr)])
    torch.testing.assert_close(layer(x, propagation), theirs(x, edges))
