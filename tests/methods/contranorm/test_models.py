"""The graph networks on a small random graph; stored arrays in tests/golden check their values."""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.contranorm.baselines import NORMS, make_norm
from methods.contranorm.models import GAT, SGC, STAGES, DeepGCN
from retable.nn.mask import NeighbourMask
from retable.nn.sparse import SparseMatrix, combine, edge_set, row_normalise

NODES, FEATURES, HIDDEN, CLASSES = 30, 12, 8, 3


@pytest.fixture(scope="module")
def graph() -> tuple[Tensor, SparseMatrix, NeighbourMask]:
    generator = torch.Generator().manual_seed(0)
    combined = combine(torch.randint(NODES, (2, 60), generator=generator), NODES)
    x = torch.rand(NODES, FEATURES, generator=generator).round(decimals=1).clamp_min(0.5) - 0.5  # half zeros
    return x, SparseMatrix(row_normalise(combined)), NeighbourMask(edge_set(combined), NODES)


def build(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    if "norm" in options:
        options["norm"] = partial(make_norm, options["norm"])
    if name == "SGC":
        return SGC(FEATURES, CLASSES, 3, **options)
    return {"DeepGCN": DeepGCN, "GAT": GAT}[name](FEATURES, HIDDEN, CLASSES, 4, **options)


MODELS = ["DeepGCN", "SGC", "GAT"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODELS)
def test_a_few_steps_lower_the_loss(name: str, norm: str, graph: tuple) -> None:
    x, propagation, mask = graph
    labels = torch.arange(NODES) % CLASSES
    model = build(name, norm=norm, dropout=0.0)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x, propagation, mask), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_model_and_same_dropout(name: str, graph: tuple) -> None:
    first, second = (build(name, norm="CN")(*graph) for _ in range(2))
    assert torch.equal(first, second)
    torch.manual_seed(1)
    assert not torch.equal(build(name, norm="CN")(*graph), build(name, norm="CN").eval()(*graph))


@pytest.mark.parametrize("name", ["DeepGCN", "GAT"])
def test_sparse_and_dense_features_agree(name: str, graph: tuple) -> None:
    x, propagation, mask = graph
    model = build(name, norm="CN").eval()
    sparse = SparseMatrix(x.to_sparse_csr())
    gradients = []
    for features in (x, sparse):
        logits = model(features, propagation, mask)
        gradients.append(torch.autograd.grad(logits.square().sum(), list(model.parameters())))
        torch.testing.assert_close(logits, model(x, propagation, mask))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", MODELS)
def test_permuting_nodes_permutes_logits(name: str, graph: tuple) -> None:
    x, propagation, mask = graph
    order = torch.randperm(NODES)
    place = torch.argsort(order)
    moved = SparseMatrix(propagation.csr.to_dense()[order][:, order].to_sparse_csr())
    moved_mask = NeighbourMask(torch.stack([place[mask.rows], place[mask.cols]]), NODES)
    model = build(name, norm="CN").eval()
    torch.testing.assert_close(
        model(x[order], moved, moved_mask), model(x, propagation, mask)[order], rtol=1e-4, atol=1e-5
    )


def test_deep_gcn_hidden_layer_order(graph: tuple) -> None:
    """Convolution with bias -> norm -> LayerNorm -> ReLU, in that order, and a bare output layer."""
    x, propagation, mask = graph
    model = build("DeepGCN", norm="PN", layer_norm="shared").eval()
    seen = {}
    logits = model(x, propagation, mask, observe=lambda layer, stage, h: seen.__setitem__((layer, stage), h))
    assert list(seen) == list(itertools.product(range(3), STAGES))
    matrix = propagation.csr.to_dense()
    for i, layer in enumerate(model.hidden_layers):
        before = x if i == 0 else seen[i - 1, "activation"]
        torch.testing.assert_close(seen[i, "input"], before)
        torch.testing.assert_close(seen[i, "convolution"], matrix @ before @ layer.weight + layer.bias)
        torch.testing.assert_close(seen[i, "norm"], model.norms[i](seen[i, "convolution"]))
        torch.testing.assert_close(seen[i, "activation"], F.relu(model.layer_norms[0](seen[i, "norm"])))
    last = model.out_layer
    torch.testing.assert_close(logits, matrix @ seen[2, "activation"] @ last.weight + last.bias)


@pytest.mark.parametrize(("layer_norm", "count"), [("none", 0), ("shared", 1), ("per-layer", 3)])
def test_layer_norm_instances(layer_norm: str, count: int, graph: tuple) -> None:
    model = build("DeepGCN", layer_norm=layer_norm)
    assert len(model.layer_norms) == count
    model(*graph).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_per_layer_and_shared_layer_norm_agree_while_their_parameters_do(graph: tuple) -> None:
    shared, own = (build("DeepGCN", layer_norm=kind).eval() for kind in ("shared", "per-layer"))
    own.load_state_dict({**own.state_dict(), **shared.state_dict()})
    assert torch.equal(shared(*graph), own(*graph))
    with torch.no_grad():
        own.layer_norms[1].bias += 1
    assert not torch.equal(shared(*graph), own(*graph))


@pytest.mark.parametrize(("residual", "sums"), [(1, [1, 2]), (2, [2])])
def test_residual_adds_the_features_kept_last(residual: int, sums: list[int], graph: tuple) -> None:
    model = build("DeepGCN", residual=residual).eval()
    seen = {}
    model(*graph, observe=lambda layer, stage, h: seen.__setitem__((layer, stage), h))
    after = [seen[1, "input"], seen[2, "input"]]  # what layers 0 and 1 handed on
    torch.testing.assert_close(after[0], seen[0, "activation"])
    expected = seen[1, "activation"] + (after[0] if 1 in sums else 0)
    torch.testing.assert_close(after[1], expected)
    matrix, last = graph[1].csr.to_dense(), model.out_layer
    kept = after[1] if residual == 1 else after[0]
    logits = matrix @ (seen[2, "activation"] + kept) @ last.weight + last.bias
    torch.testing.assert_close(model(*graph), logits)


def test_dropout_of_sparse_features_keeps_their_mean_and_their_zeros(graph: tuple) -> None:
    x = graph[0]
    sparse = SparseMatrix(x.to_sparse_csr())
    torch.manual_seed(0)
    draws = torch.stack([sparse.dropout(0.6).csr.to_dense() for _ in range(4000)])
    torch.testing.assert_close(draws.mean(0), x, rtol=0, atol=0.05)
    assert (draws[:, x == 0] == 0).all()
    kept = (draws[:, x > 0] > 0).float().mean().item()
    assert kept == pytest.approx(0.4, abs=0.01)


def test_sgc_classifies_smoothed_features(graph: tuple) -> None:
    x, propagation, _ = graph
    model = build("SGC").eval()
    matrix = propagation.csr.to_dense()
    torch.testing.assert_close(model(x, propagation), model.linear(matrix @ matrix @ matrix @ x))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="depth must be at least 2"):
        DeepGCN(FEATURES, HIDDEN, CLASSES, 1)
    with pytest.raises(ValueError, match="depth must be at least 2"):
        GAT(FEATURES, HIDDEN, CLASSES, 1)
    with pytest.raises(ValueError, match="unknown layer_norm 'affine': choose one of none, shared, per-layer"):
        DeepGCN(FEATURES, HIDDEN, CLASSES, 2, layer_norm="affine")
    with pytest.raises(ValueError, match="out_dim 8 is not a multiple of heads 3"):
        GAT(FEATURES, HIDDEN, CLASSES, 2, heads=3)
