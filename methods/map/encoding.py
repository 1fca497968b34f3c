"""Laplacian positional encodings of a graph: eigenvectors of its normalised adjacency, canonized or not."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .canonize import Precision, canonize


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (r,), ascending, and eigenvectors (n, r), float64."""

    values: Tensor
    vectors: Tensor


@dataclass(frozen=True)
class Encoding:
    """A positional encoding (n, k), and which of its columns are canonical, bool (k,); padding is."""

    columns: Tensor
    canonical: Tensor


def normalised_adjacency(adjacency: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2 of a dense A (n, n), float64; degrees are column sums, at least 1."""
    scale = adjacency.sum(0).clamp(min=1).rsqrt()
    return scale[:, None] * adjacency * scale


def spectrum(matrix: Tensor, *, drop_trivial: bool = True) -> Spectrum:
    """Eigenpairs of a symmetric matrix (n, n), eigenvalues rounded to 14 decimals; without the largest, trivial one.

    The experiments decompose the normalised adjacency and drop the trivial pair; the authors' library adds the identity
    and keeps all.
    """
    values, vectors = torch.linalg.eigh(matrix)
    values = values.round(decimals=14)
    last = len(values) - drop_trivial
    return Spectrum(values[:last], vectors[:, :last])


def encode(
    pairs: Spectrum, k: int, precision: Precision, *, sign: bool = True, basis: bool = True, scale: bool = True
) -> Encoding:
    """The encoding by the k largest eigenvalues, ascending; `scale` multiplies by sqrt(max(eigenvalue, 0)).

    Zero columns fill up on the right. Scaling makes columns of negative and zero eigenvalues zero, ambiguous or not.
    """
    values, vectors = pairs.values[-k:], pairs.vectors[:, -k:]
    columns, canonical = canonize(vectors, values, precision, sign=sign, basis=basis)
    if scale:
        columns = columns * values.clamp(min=0).sqrt()
        canonical = canonical | (values <= 0)
    padding = k - len(values)
    return Encoding(
        torch.cat([columns, columns.new_zeros(len(columns), padding)], dim=1),
        torch.cat([canonical, torch.ones(padding, dtype=torch.bool)]),
    )
