import pytest
import torch
from torch import Tensor

from methods.gcl.nodes.encoders import (
    NORMALISERS,
    BatchNormGCN,
    GCNEncoder,
    MLPEncoder,
    View,
    gcn_propagation,
    make_normaliser,
)
from retable.nn.sparse import SparseMatrix

EDGES = torch.tensor([[0, 1, 1, 2, 3, 3], [1, 0, 2, 1, 3, 2]])  # directed where it matters, one self loop, node 4 alone
NODES = 5


def features(f: int = 6) -> Tensor:
    return torch.randn(NODES, f, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).relu()


def encoders() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    made = {f"gcn-{name}": GCNEncoder(6, 4, norm=make_normaliser(name, 4, 2.0)) for name in NORMALISERS}
    made |= {f"batchnorm-{name}": BatchNormGCN(6, 4, norm=make_normaliser(name, 8, 2.0)) for name in NORMALISERS}
    made |= {f"mlp-{name}": MLPEncoder(6, 4, make_normaliser(name, 4, 2.0)) for name in NORMALISERS}
    return {name: encoder.double().eval() for name, encoder in made.items()}


def test_propagation_equals_dense_formula() -> None:
    adjacency = torch.zeros(NODES, NODES, dtype=torch.float64)
    for source, target in EDGES.t().tolist():
        if source != target:
            adjacency[target, source] += 1
    for weight in (1, 2):
        a = adjacency + weight * torch.eye(NODES, dtype=torch.float64)
        scale = a.sum(1).rsqrt()
        actual = gcn_propagation(EDGES, NODES, torch.float64, loop_weight=weight).csr.to_dense()
        torch.testing.assert_close(actual, scale[:, None] * a * scale)


def test_propagation_without_edges_is_the_identity() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    torch.testing.assert_close(gcn_propagation(none, 3).csr.to_dense(), torch.eye(3))


@pytest.mark.parametrize("name", list(encoders()))
def test_sparse_features_and_dropped_columns_equal_dense_ones(name: str) -> None:
    encoder, x = encoders()[name], features()
    keep = torch.tensor([1, 0, 1, 1, 0, 1], dtype=x.dtype)
    whole = View.of(x, EDGES)
    results, gradients = [], []
    for view in (
        View.of(x * keep, EDGES),
        View(x, EDGES, whole.propagate, keep),
        View(SparseMatrix(x.to_sparse_csr()), EDGES, whole.propagate, keep),
    ):
        z = encoder(view)
        results.append(z)
        gradients.append(torch.autograd.grad(z.square().sum(), encoder.weights[0])[0])
    for z, gradient in zip(results[1:], gradients[1:], strict=True):
        torch.testing.assert_close(z, results[0])
        torch.testing.assert_close(gradient, gradients[0])


@pytest.mark.parametrize("name", list(encoders()))
def test_renumbered_nodes_give_renumbered_rows(name: str) -> None:
    encoder, x = encoders()[name], features()
    order = torch.tensor([3, 0, 4, 1, 2])
    place = torch.argsort(order)
    moved = encoder(View.of(x[order], place[EDGES]))
    torch.testing.assert_close(moved, encoder(View.of(x, EDGES))[order])


def test_mlp_does_not_look_at_edges() -> None:
    encoder, x = encoders()["mlp-none"], features()
    none = torch.empty(2, 0, dtype=torch.long)
    torch.testing.assert_close(encoder(View.of(x, none)), encoder(View.of(x, EDGES)))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_all_layers_have_one_width_and_share_the_activation(layers: int) -> None:
    encoder = GCNEncoder(6, 4, layers)
    assert encoder(View.of(features().float(), EDGES)).shape == (NODES, 4)
    assert sum(p.numel() for p in encoder.parameters()) == 6 * 4 + (layers - 1) * 16 + layers * 4 + 1


def test_batchnorm_gcn_is_the_authors_network() -> None:
    """Convolution, BatchNorm of the batch, ReLU, twice; then a bare convolution, half as wide."""
    torch.manual_seed(0)
    encoder, x = BatchNormGCN(6, 4, dropout=0.0).double(), features()
    a = gcn_propagation(EDGES, NODES, torch.float64).csr.to_dense()
    with torch.no_grad():
        for bias in encoder.biases:
            bias.normal_()
    h = x
    for weight, bias in zip(encoder.weights[:-1], encoder.biases[:-1], strict=True):
        h = a @ h @ weight + bias
        h = ((h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()).relu()
    expected = a @ h @ encoder.weights[-1] + encoder.biases[-1]
    assert [tuple(weight.shape) for weight in encoder.weights] == [(6, 8), (8, 8), (8, 4)]
    torch.testing.assert_close(encoder(View.of(x, EDGES)), expected)


def test_batchnorm_gcn_drops_features_in_training_only() -> None:
    torch.manual_seed(0)
    encoder, view = BatchNormGCN(6, 4).double(), View.of(features(), EDGES)
    assert not torch.equal(encoder(view), encoder(view))
    encoder.eval()
    assert torch.equal(encoder(view), encoder(view))


def test_one_normaliser_for_all_layers() -> None:
    encoder = GCNEncoder(6, 4, 3, norm=make_normaliser("contranorm", 4, 5.0))
    assert sum(p.numel() for p in encoder.norm.parameters()) == 8


def test_unknown_names_are_named() -> None:
    with pytest.raises(ValueError, match="unknown normaliser 'cn': choose one of none, layernorm"):
        make_normaliser("cn", 4)
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        GCNEncoder(6, 4, activation="gelu")
    with pytest.raises(ValueError, match="layers must be at least 1"):
        GCNEncoder(6, 4, 0)
    with pytest.raises(ValueError, match="layers must be at least 2, got 1"):
        BatchNormGCN(6, 4, 1)
