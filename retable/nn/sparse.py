"""Sparse matrices as torch CSR tensors: adjacencies and their normalisations, and a differentiable product.

:class:`SparseMatrix` wraps a matrix that takes part in training.
"""

import warnings
from typing import Any

import torch
from torch import Tensor


def csr_from_entries(rows: Tensor, cols: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sparse CSR matrix of ``shape`` from entries (E,); entries at the same place are summed."""
    coo = torch.sparse_coo_tensor(torch.stack([rows, cols]), values, shape, check_invariants=False).coalesce()
    return _csr_from_coo(coo)


def row_indices(csr: Tensor) -> Tensor:
    """Row of every stored entry of a CSR matrix: int64 (nnz,)."""
    counts = csr.crow_indices().diff()
    return torch.repeat_interleave(torch.arange(csr.shape[0], device=csr.device), counts)


def combine(edge_index: Tensor, num_nodes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Undirected adjacency with self loops, ``C = max(A, A^T) + I`` (Kipf & Welling, 2017), as CSR (n, n).

    ``A`` counts the edges of ``edge_index`` int64 (2, E): duplicates add up, and an existing self loop
    counts 2 in ``C``. Raises ``ValueError`` for indices outside ``0 .. num_nodes - 1``.
    """
    _check_edges(edge_index, num_nodes)
    n = num_nodes
    keys, counts = torch.unique(edge_index[0] * n + edge_index[1], return_counts=True)
    both = torch.cat([keys, keys % n * n + keys // n])
    # Sorted by key, then by count: the last entry of a key's group is max(A, A^T) there.
    order = torch.argsort(both * (int(counts.max()) + 1 if len(counts) else 1) + torch.cat([counts, counts]))
    both, twice = both[order], torch.cat([counts, counts])[order]
    last = torch.ones_like(both, dtype=torch.bool)
    last[:-1] = both[1:] != both[:-1]
    loops = torch.arange(n, device=edge_index.device)
    rows = torch.cat([both[last] // n, loops])
    cols = torch.cat([both[last] % n, loops])
    values = torch.cat([twice[last], torch.ones_like(loops)]).to(dtype)
    return csr_from_entries(rows, cols, values, (n, n))


def row_normalise(csr: Tensor) -> Tensor:
    """``D^-1 C`` for a CSR matrix (n, m); rows that sum to zero stay zero."""
    inverse = _finite_reciprocal(_row_sums(csr))
    return _with_values(csr, csr.values() * inverse[row_indices(csr)])


def sym_normalise(csr: Tensor) -> Tensor:
    """``D^-1/2 C D^-1/2`` for a square CSR matrix (n, n), D the row sums; rows that sum to zero stay zero."""
    root = _finite_reciprocal(_row_sums(csr).sqrt())
    return _with_values(csr, root[row_indices(csr)] * csr.values() * root[csr.col_indices()])


def l1_normalise(features: Tensor) -> Tensor:
    """Each row over ``1e-6 + row sum``: dense (n, f) or CSR in, the same layout out; zero rows stay zero."""
    if features.layout == torch.sparse_csr:
        scale = 1.0 / (1e-6 + _row_sums(features))
        return _with_values(features, features.values() * scale[row_indices(features)])
    return features / (1e-6 + features.sum(dim=1, keepdim=True))


def edge_set(csr: Tensor, threshold: float = 0.0) -> Tensor:
    """Places of a CSR matrix whose value exceeds ``threshold``: int64 (2, E), sorted by row, then column."""
    keep = csr.values() > threshold
    return torch.stack([row_indices(csr)[keep], csr.col_indices()[keep].long()])


class SparseMatrix:
    """A CSR matrix for use in training: ``y = matrix @ dense``, differentiable in ``dense`` alone.

    Its transpose is built once, because autograd through a torch CSR product sorts it anew in each backward
    pass. On the CPU products give the same bytes every time.
    """

    def __init__(self, csr: Tensor) -> None:
        """``csr``: torch sparse CSR (n, m), say ``x.to_sparse_csr()``; ``TypeError`` for another layout."""
        if csr.layout != torch.sparse_csr:
            raise TypeError(f"SparseMatrix needs a sparse CSR tensor, got {csr.layout}: call .to_sparse_csr() on it")
        rows, cols = row_indices(csr), csr.col_indices().long()
        self.csr = csr
        # Entries in column order, stably, so rows stay sorted inside a column.
        self._order = torch.argsort(cols, stable=True)
        counts = torch.bincount(cols, minlength=csr.shape[1])
        self._crow_t = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self._col_t = rows[self._order]
        self.csr_t = self._transposed(csr.values())

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.csr.shape[0], self.csr.shape[1]

    def __matmul__(self, dense: Tensor) -> Tensor:
        return _SparseProduct.apply(self.csr, self.csr_t, dense)

    def dropout(self, p: float, training: bool = True) -> "SparseMatrix":
        """Copy whose stored entries went through dropout with rate ``p`` (torch's global generator).

        Absent entries are zero before and after, so this is dropout of the dense matrix with far fewer draws.
        """
        if not training or p == 0.0:
            return self
        values = torch.nn.functional.dropout(self.csr.values(), p)
        dropped = object.__new__(SparseMatrix)
        dropped.__dict__.update(self.__dict__)
        dropped.csr = _with_values(self.csr, values)
        dropped.csr_t = self._transposed(values)
        return dropped

    def to(self, *args: Any, **kwargs: Any) -> "SparseMatrix":
        """Copy on another device or in another dtype, as ``Tensor.to``."""
        return SparseMatrix(self.csr.to(*args, **kwargs))

    def _transposed(self, values: Tensor) -> Tensor:
        shape = (self.csr.shape[1], self.csr.shape[0])
        return _new_csr(self._crow_t, self._col_t, values[self._order], shape)


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, csr: Tensor, csr_t: Tensor, dense: Tensor) -> Tensor:
        ctx.csr_t = csr_t
        return csr @ dense

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.csr_t @ grad.contiguous()


def _new_csr(crow: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        # torch announces once per process that CSR support is in beta.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, col, values, shape, check_invariants=False)


def _csr_from_coo(coo: Tensor) -> Tensor:
    rows, cols = coo.indices()
    counts = torch.bincount(rows, minlength=coo.shape[0])
    crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return _new_csr(crow, cols, coo.values(), (coo.shape[0], coo.shape[1]))


def _with_values(csr: Tensor, values: Tensor) -> Tensor:
    return _new_csr(csr.crow_indices(), csr.col_indices(), values, (csr.shape[0], csr.shape[1]))


def _row_sums(csr: Tensor) -> Tensor:
    return csr.values().new_zeros(csr.shape[0]).index_add_(0, row_indices(csr), csr.values())


def _finite_reciprocal(x: Tensor) -> Tensor:
    return torch.where(x == 0, torch.zeros_like(x), 1.0 / x)


def _check_edges(edge_index: Tensor, num_nodes: int) -> None:
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise ValueError(f"edge_index must have shape (2, E), got {tuple(edge_index.shape)}")
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= num_nodes):
        raise ValueError(
            f"edge_index holds nodes {int(edge_index.min())} .. {int(edge_index.max())}, "
            f"but num_nodes is {num_nodes}: pass the number of all nodes, isolated ones included"
        )
