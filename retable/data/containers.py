"""What readers return, and the hashes that cards pin: numpy and scipy only."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import scipy.sparse

from retable.cards import DataError as DataError
from retable.data.edges import distinct_edges


@dataclass(frozen=True, eq=False)
class NodeSplit:
    """Which nodes are trained on, chosen on and reported on: three boolean arrays of shape (N,)."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @property
    def sizes(self) -> tuple[int, int, int]:
        return int(self.train.sum()), int(self.val.sum()), int(self.test.sum())


@dataclass(frozen=True, eq=False)
class NodeGraph:
    """One graph with a feature row and a class for each node.

    `x` is float32 CSR (N, F) in canonical form, `y` int64 (N,). `edge_index` is int64 (2, E), source above
    target, **as upstream lists it**: duplicates, self-loops and direction are kept, because papers differ in
    how they treat them; each reader says what its list holds.
    """

    name: str
    x: scipy.sparse.csr_matrix
    edge_index: np.ndarray
    y: np.ndarray
    splits: dict[str, NodeSplit]


def canonical_csr(matrix: scipy.sparse.spmatrix | np.ndarray) -> scipy.sparse.csr_matrix:
    """float32 CSR with sorted columns, without duplicates and stored zeros: equal matrices, equal arrays."""
    csr = scipy.sparse.csr_matrix(matrix, dtype=np.float32, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    return csr


@singledispatch
def count(data: object) -> dict[str, int]:
    """What a data set holds, for its card; links are undirected, without self-loops and duplicates."""
    raise TypeError(f"no counts of a {type(data).__name__}")


@singledispatch
def content_sha256(data: object) -> str:
    """Hash of a data set's parsed arrays: of their values, whatever the memory layout or byte order."""
    raise TypeError(f"no hash of a {type(data).__name__}")


@singledispatch
def split_sha256(split: object) -> str:
    """Hash of a split's arrays."""
    raise TypeError(f"no hash of a {type(split).__name__}")


@count.register
def _(graph: NodeGraph) -> dict[str, int]:
    links = distinct_edges(np.sort(graph.edge_index, axis=0), len(graph.y), loops=False)
    return {
        "nodes": len(graph.y),
        "links": links.shape[1],
        "features": graph.x.shape[1],
        "classes": len(np.unique(graph.y)),
    }


@content_sha256.register
def _(graph: NodeGraph) -> str:
    x = canonical_csr(graph.x)
    digest = hashlib.sha256()
    for part in canonical_bytes("x.shape", np.asarray(x.shape), "<i8"):
        digest.update(part)
    arrays = (
        ("x.indptr", x.indptr, "<i8"),
        ("x.indices", x.indices, "<i8"),
        ("x.data", x.data, "<f4"),
        ("edge_index", graph.edge_index, "<i8"),
        ("y", graph.y, "<i8"),
    )
    for name, array, dtype in arrays:
        for part in canonical_bytes(name, array, dtype):
            digest.update(part)
    return digest.hexdigest()


@split_sha256.register
def _(split: NodeSplit) -> str:
    digest = hashlib.sha256()
    for name in ("train", "val", "test"):
        for part in canonical_bytes(name, getattr(split, name), "|b1"):
            digest.update(part)
    return digest.hexdigest()


def canonical_bytes(name: str, array: np.ndarray, dtype: str) -> Iterator[bytes]:
    """What a hash of a named array covers: name, dtype, shape, values in C order and little-endian."""
    fixed = np.ascontiguousarray(array, dtype=np.dtype(dtype))
    yield f"{name} {dtype} {fixed.shape}\n".encode()
    yield fixed.tobytes()
