import numpy as np
import pytest
import torch
from torch import Tensor

from retable.nn.sparse import (
    SparseMatrix,
    combine,
    csr_from_entries,
    edge_set,
    l1_normalise,
    row_normalise,
    sym_normalise,
)

# A double edge 0 -> 1 met by a single 1 -> 0, a self loop, a one-way edge, and node 4 alone.
EDGES = torch.tensor([[0, 0, 1, 2, 2], [1, 1, 0, 2, 3]])
COMBINED = torch.tensor(
    [
        [1.0, 2.0, 0.0, 0.0, 0.0],
        [2.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 2.0, 1.0, 0.0],
        [0.0, 0.0, 1.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ]
)


def sparse(n: int = 40, m: int = 25, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(n, m, dtype=torch.float64, generator=generator)
    return (dense * (dense < 0.2)).to_sparse_csr()


def test_combine_by_hand() -> None:
    assert torch.equal(combine(EDGES, 5).to_dense(), COMBINED)


def test_combine_of_no_edges_is_the_identity() -> None:
    assert torch.equal(combine(EDGES[:, :0], 3).to_dense(), torch.eye(3))


@pytest.mark.parametrize("seed", range(5))
def test_combine_equals_its_dense_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, 12, (2, 80))
    a = np.zeros((12, 12))
    np.add.at(a, tuple(edges), 1)
    combined = combine(torch.from_numpy(edges), 12, torch.float64)
    np.testing.assert_array_equal(combined.to_dense().numpy(), np.maximum(a, a.T) + np.eye(12))


def test_combine_refuses_nodes_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"holds nodes 0 \.\. 3, but num_nodes is 3"):
        combine(EDGES, 3)
    with pytest.raises(ValueError, match=r"shape \(2, E\), got \(5, 2\)"):
        combine(EDGES.T, 5)


def test_row_normalise_makes_rows_sum_to_one() -> None:
    normalised = row_normalise(combine(EDGES, 5)).to_dense()
    torch.testing.assert_close(normalised, COMBINED / COMBINED.sum(1, keepdim=True))


def test_sym_normalise_equals_its_dense_definition() -> None:
    root = torch.diag(COMBINED.sum(1) ** -0.5)
    torch.testing.assert_close(sym_normalise(combine(EDGES, 5)).to_dense(), root @ COMBINED @ root)


@pytest.mark.parametrize("normalise", [row_normalise, sym_normalise])
def test_empty_rows_stay_zero(normalise) -> None:
    csr = csr_from_entries(torch.tensor([0]), torch.tensor([0]), torch.tensor([3.0]), (2, 2))
    assert torch.equal(normalise(csr).to_dense()[1], torch.zeros(2))


def test_l1_normalise_of_dense_and_sparse_features() -> None:
    x = sparse()
    dense = x.to_dense()
    expected = dense / (1e-6 + dense.sum(1, keepdim=True))
    torch.testing.assert_close(l1_normalise(dense), expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(l1_normalise(x).to_dense(), expected, rtol=0, atol=1e-15)
    assert torch.equal(l1_normalise(torch.zeros(1, 3)), torch.zeros(1, 3))


def test_edge_set_lists_places_above_the_threshold() -> None:
    csr = row_normalise(combine(EDGES, 5))
    assert torch.equal(edge_set(csr), COMBINED.nonzero().T)
    assert torch.equal(edge_set(csr, 0.4), (csr.to_dense() > 0.4).nonzero().T)


def test_entries_at_the_same_place_are_summed() -> None:
    csr = csr_from_entries(torch.tensor([1, 0, 1]), torch.tensor([2, 0, 2]), torch.tensor([1.0, 5.0, 2.0]), (2, 3))
    assert torch.equal(csr.to_dense(), torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 3.0]]))


def test_product_and_its_gradient_equal_the_dense_ones() -> None:
    csr = sparse()
    dense = torch.randn(25, 6, dtype=torch.float64, requires_grad=True)
    product = SparseMatrix(csr) @ dense
    torch.testing.assert_close(product, csr.to_dense() @ dense)
    assert torch.autograd.gradcheck(lambda d: SparseMatrix(csr) @ d, dense)
    # A gradient that is a transposed view arrives in backward as it is.
    (gradient,) = torch.autograd.grad((product.T @ torch.ones(40, 6, dtype=torch.float64)).sum(), dense)
    torch.testing.assert_close(gradient, 6 * csr.to_dense().T @ torch.ones(40, 6, dtype=torch.float64))


def test_product_after_dropout_uses_the_same_draw_forward_and_backward() -> None:
    torch.manual_seed(0)
    dropped = SparseMatrix(sparse()).dropout(0.5)
    dense = torch.randn(25, 6, dtype=torch.float64, requires_grad=True)
    kept = dropped.csr.to_dense()
    assert 0 < (kept == 0).double().mean() < 1
    (gradient,) = torch.autograd.grad((dropped @ dense).sum(), dense)
    torch.testing.assert_close(gradient, kept.T @ torch.ones(40, 6, dtype=torch.float64))
    assert torch.equal(dropped.csr_t.to_dense(), kept.T)


def test_dropout_is_off_in_evaluation_and_leaves_the_original() -> None:
    matrix = SparseMatrix(sparse())
    before = matrix.csr.to_dense().clone()
    assert matrix.dropout(0.5, training=False) is matrix
    matrix.dropout(0.5)
    assert torch.equal(matrix.csr.to_dense(), before)


def test_to_changes_the_dtype() -> None:
    matrix = SparseMatrix(sparse()).to(torch.float32)
    assert (matrix @ torch.ones(25, 2)).dtype == torch.float32
    assert matrix.shape == (40, 25)


def test_another_layout_is_refused_with_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"call \.to_sparse_csr"):
        SparseMatrix(torch.eye(3))
